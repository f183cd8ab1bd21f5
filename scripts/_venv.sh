# Sourced by scripts/demo and scripts/test: `use_venv EXTRA` finds or makes a virtual environment and installs kws[EXTRA].

say() { printf '\n== %s\n' "$*"; }

use_venv() {
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        say "Using the active virtual environment $VIRTUAL_ENV"
    else
        if [ ! -x .venv/bin/python ]; then
            say "Making a virtual environment in .venv"
            python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
                echo "Python 3.10 or newer is needed; python3 is $(python3 --version 2>&1)" >&2
                exit 2
            }
            python3 -m venv .venv || { rm -rf .venv; exit 1; }  # half an environment is none
        fi
        VIRTUAL_ENV=$PWD/.venv
    fi
    export VIRTUAL_ENV PATH="$VIRTUAL_ENV/bin:$PATH"
    # The stamp spares the package index, and so the network, where setup.cfg is what was installed already.
    local stamp="$VIRTUAL_ENV/.kws-$1" wanted
    wanted="$PWD $(cksum <setup.cfg)"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        say "Installing kws[$1] with what it needs (torch is the large one: a few minutes the first time)"
        python -m pip install --quiet --disable-pip-version-check --editable ".[$1]"
        printf '%s\n' "$wanted" >"$stamp"
    fi
}
