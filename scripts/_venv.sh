# Sourced by scripts/demo and scripts/test: `use_venv EXTRA` finds or creates an environment and installs kws[EXTRA].

say() { printf '\n== %s\n' "$*"; }

use_venv() {
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        say "Using the active virtual environment $VIRTUAL_ENV"
    else
        if [ ! -x .venv/bin/python ]; then
            say "Creating a virtual environment in .venv"
            python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
                echo "Python 3.10 or newer is needed; python3 is $(python3 --version 2>&1)" >&2
                exit 2
            }
            python3 -m venv .venv || { rm -rf .venv; exit 1; }  # an incomplete environment is not usable
        fi
        VIRTUAL_ENV=$PWD/.venv
    fi
    export VIRTUAL_ENV PATH="$VIRTUAL_ENV/bin:$PATH"
    # The stamp avoids a request to the package index, and so the network, if this setup.cfg is installed already.
    local stamp="$VIRTUAL_ENV/.kws-$1" wanted
    wanted="$PWD $(cksum <setup.cfg)"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        say "Installing kws[$1] and its dependencies (a few minutes the first time; torch is large)"
        python -m pip install --quiet --disable-pip-version-check --editable ".[$1]"
        printf '%s\n' "$wanted" >"$stamp"
    fi
}
