#!/bin/sh
# Make a virtual environment, unless it is there, and install into it what is asked for.
#
# usage: environment.sh FOLDER WHAT...      WHAT is what `pip install` is told
#
# PYTHON names the interpreter (default: python3).
#
# Debian's Python comes without ensurepip, so that `-m venv` fails there: root gets the missing
# package installed, anybody else is told which one it is.
set -eu

folder=$1
shift
python=${PYTHON:-python3}

stop() {
    echo "environment: $*" >&2
    exit 1
}

is_usable() {
    "$folder/bin/python" -m pip --version >/dev/null 2>&1
}

make_environment() {
    # What a failed attempt left behind has no pip, and a second attempt would not add it.
    rm -rf "$folder"
    "$python" -m venv "$folder"
}

install_venv_package() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 ||
        stop "$python cannot make a virtual environment; install Debian's python3-venv (or your system's like), then run make again"
    echo "environment: $python cannot make a virtual environment; installing python3-venv"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null >/dev/null &&
        apt-get install -y -qq --no-install-recommends python3-venv </dev/null >/dev/null ||
        stop "apt-get could not install python3-venv; see its message above"
}

command -v "$python" >/dev/null 2>&1 ||
    stop "there is no $python; install Python 3.11 or later, or name one: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "Python 3.11 or later is needed, $python is $("$python" -V 2>&1); name another: make PYTHON=/path/to/python3"

if ! is_usable; then
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        install_venv_package
    fi
    make_environment || stop "$python could not make a virtual environment in $folder; see its message above"
fi

echo "environment: installing $* into $folder"
"$folder/bin/python" -m pip install --quiet "$@" </dev/null ||
    stop "pip could not install $*; see its message above"
