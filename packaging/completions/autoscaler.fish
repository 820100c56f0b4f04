# Completion for fish: share/fish/vendor_completions.d/autoscaler.fish.
# Commands and options are read from --help, so they are always those of the program at hand.

function __autoscaler_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    set -l program $words[1]
    set -l before $words[-1]
    set -l command
    set -l config
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case -c --config
                set config $words[1..2]
                set -e words[1]
            case '-*'
            case '*'
                set -q command[1]; or set command $words[1]
        end
        set -e words[1]
    end
    set -l help ($program $command --help 2>/dev/null)

    # What the option before takes, if it takes something.
    set -l takes
    if string match -q -- '-*' $before
        set takes (string replace -rf -- "^ {2,6}(.*, )?$before(,.*)? ([A-Z]+)  ?.*" '$3' $help)
    end
    if set -q takes[1]
        test $takes = FILE; and __fish_complete_path $word
    else if string match -q -- '-*' $word
        string replace -rf -- '^ {2,6}(-\w, )?(--[a-z-]+)( [A-Z]+)? +(.*)' '$2\t$4' $help
    else if not set -q command[1]
        string replace -rf -- '^  ([a-z][a-z-]*) +(.*)' '$1\t$2' $help
    else if test $command = remove-host
        $program $config list-hosts 2>/dev/null | string replace ' ' \t
    else
        __fish_complete_path $word
    end
end

complete -c autoscaler -f -a '(__autoscaler_complete)'
