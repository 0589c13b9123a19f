# shellcheck shell=bash
# Completion for hpkv, hpkvd, hpkvfs, mount.hpkvfs and fsck.hpkvfs. It asks the program for --help, so it cannot fall behind.

# Options at the start of a line of --help: switches, one a line, those with an argument ended by "=".
_hpkvfs_switches() {
    "$1" --help 2>/dev/null | sed -n 's/^  \(-.*\)/\1/p' | sed 's/   *[^ -].*//' | grep -oE -- '--[a-z][a-z-]*'
}

# Options of -o: lines that hold a name alone, or NAME=ARGUMENT.
_hpkvfs_mount_options() {
    "$1" --help 2>/dev/null | sed -nE 's/^  ([a-z_]+)(=[^ ]*)?( .*)?$/\1\2/p' | sed 's/=.*/=/'
}

# Commands: the first words of lines that begin with a small letter.
_hpkvfs_commands() {
    "$1" --help 2>/dev/null | sed -nE 's/^  (hpkv (\[[^]]*\] )*)?([a-z]+)( .*)?$/\3/p'
}

_hpkvfs() {
    local program=$1 current=$2 previous=$3 head='' word
    COMPREPLY=()
    case ${program##*/} in
    hpkvfs | mount.hpkvfs | fsck.hpkvfs)
        if [[ $previous == -o ]]; then
            [[ $current == *,* ]] && head=${current%,*},
            mapfile -t COMPREPLY < <(compgen -W "$(_hpkvfs_mount_options "$program")" -- "${current##*,}")
            for word in "${!COMPREPLY[@]}"; do
                COMPREPLY[word]=$head${COMPREPLY[word]}
            done
            [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
            return
        fi
        ;;
    hpkv)
        if [[ $current != -* ]] && ((COMP_CWORD == 1)); then
            mapfile -t COMPREPLY < <(compgen -W "$(_hpkvfs_commands "$program")" -- "$current")
            return
        fi
        ;;
    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_hpkvfs_switches "$program")" -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
}

complete -F _hpkvfs hpkv hpkvd hpkvfs mount.hpkvfs fsck.hpkvfs
