# Completion for bash: share/bash-completion/completions/autoscaler, or source it.
# Commands and options are read from --help, so they are always those of the program at hand.

_autoscaler() {
    local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local command= config=() help options words= takes= i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -c | --config) config=(-c "${COMP_WORDS[++i]}") ;;
        -*) ;;
        *) command=${command:-${COMP_WORDS[i]}} ;;
        esac
    done
    help=$("$program" ${command:+"$command"} --help 2>/dev/null)
    # Lines of an option, and what it takes if it takes something.
    options=$(sed -nE -e 's/^ {2}(-[[:alpha:]]), (--[a-z-]+)( [A-Z]+)?.*/\1\3\n\2\3/p' \
        -e 's/^ {6}(--[a-z-]+)( [A-Z]+)?.*/\1\2/p' <<<"$help")

    [[ $before == -* ]] && takes=$(sed -n "s/^$before //p" <<<"$options")
    if [[ -n $takes ]]; then
        [[ $takes == FILE ]] || compopt +o default
    elif [[ $word == -* ]]; then
        words=$(grep -oE '^--[a-z-]+' <<<"$options")
    elif [[ -z $command ]]; then
        words=$(sed -nE 's/^  ([a-z][a-z-]*) .*/\1/p' <<<"$help")
    elif [[ $command == remove-host ]]; then
        words=$("$program" "${config[@]}" list-hosts 2>/dev/null | cut -d ' ' -f 1)
    fi
    # Where there are no words, bash takes files.
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
} && complete -o default -F _autoscaler autoscaler
