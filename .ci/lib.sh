# Shared by .ci/run and .ci/full.

say() { printf '\n=== %s (%ss)\n' "$*" "$SECONDS"; }

# The first interpreter among the arguments that really runs; a name on the PATH may be a shim.
interpreter() {
    for candidate in "$@"; do
        if "$candidate" -c 'import venv' >/dev/null 2>&1; then echo "$candidate"; return 0; fi
    done
    return 1
}

# A fresh virtual environment: fresh NAME PYTHON -> its bin folder is put into $bin.
fresh() {
    "$2" -m venv "$work/$1"
    bin="$work/$1/bin"
    "$bin/python" -m pip install --quiet --upgrade pip 2>&1 | grep -v '^WARNING' || true
}
