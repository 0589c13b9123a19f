# shellcheck shell=bash
# What quickstart and check share: one line a step, the full log in a file, packages that are missing.
# The script that reads this sets `me` (its name), `log` (the file) and `top` (the repository).
: "${me:?}" "${top:?}" "${log:=}"

say() {
    printf '%s: %s\n' "$me" "$*"
}

fail() {
    printf '%s: %s\n' "$me" "$*" >&2
    exit 1
}

# logged COMMAND...: runs it with all output in the log; on failure shows the log's tail and ends.
logged() {
    printf '\n$ %s\n' "$*" >>"$log"
    "$@" >>"$log" 2>&1 && return
    local code=$?
    echo "--- the last lines of $log" >&2
    tail -n 30 "$log" >&2
    fail "failed with exit code $code: $*"
}

have_proof() { # PROOF PACKAGES
    local package
    case $1 in
    command:*) command -v "${1#*:}" >/dev/null ;;
    pkg-config:*) command -v pkg-config >/dev/null && pkg-config --exists "${1#*:}" ;;
    header:*) compgen -G "/usr/include/${1#*:}" >/dev/null || compgen -G "/usr/include/*-linux-gnu/${1#*:}" >/dev/null ;;
    python:*) /usr/bin/python3 -c "import ${1#*:}" 2>/dev/null ;;
    package)
        for package in ${2//|/ }; do
            dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed && return
        done
        return 1
        ;;
    *) fail "packaging/packages: no such proof: $1" ;;
    esac
}

# missing SECTION...: prints the lists of alternative packages whose proof is missing, one a line.
missing() {
    local section proof packages
    while read -r section proof packages; do
        [[ " $* " == *" $section "* ]] || continue
        have_proof "$proof" "$packages" || printf '%s\n' "$packages"
    done < <(grep -v '^#' "$top/packaging/packages")
}

offered() {
    [[ $(apt-cache policy "$1" 2>/dev/null) == *"Candidate: "[0-9]* ]]
}

# as_root COMMAND...: runs it as root, by sudo where needed.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        fail "this needs root, and there is no sudo here: $*"
    fi
}

# install_missing SECTION...: no apt-get at all where nothing is missing.
install_missing() {
    local -a lists names=()
    local list name
    mapfile -t lists < <(missing "$@")
    if ((${#lists[@]} == 0)); then
        say "packages: nothing is missing"
        return
    fi
    command -v apt-get >/dev/null || fail "missing, and there is no apt-get to install it: ${lists[*]}"
    say "packages: installing ${lists[*]}"
    logged as_root apt-get update
    for list in "${lists[@]}"; do
        for name in ${list//|/ }; do
            if offered "$name"; then
                names+=("$name")
                continue 2
            fi
        done
        fail "this release offers no package $list"
    done
    logged as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${names[@]}"
    mapfile -t lists < <(missing "$@")
    ((${#lists[@]} == 0)) || fail "still missing after apt-get: ${lists[*]}"
}
