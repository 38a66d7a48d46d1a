#!/bin/sh
# Install the servers that tests start, Redis and RabbitMQ, unless they are there.
#
# usage: services.sh [STAMP]      STAMP is touched when both are there; CI=true: it fails when they are not
#
# Root on a system with apt gets them installed, anybody else is told what is left out without them.
# Tests start servers of their own: the packages' services are neither started now nor at the next boot.
set -eu

stamp=${1:-}
policy=/usr/sbin/policy-rc.d
kept=$policy.kept-by-celeriac
# Where Debian has rabbitmq-server, which only root looks for there.
PATH=$PATH:/usr/sbin

missing() {
    for package in redis-server rabbitmq-server; do
        command -v "$package" >/dev/null 2>&1 || printf ' %s' "$package"
    done
}

can_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1
}

hold_services_back() {
    # A policy that is kept already is the true one; what lies beside it, an interrupted run left behind.
    [ -e "$kept" ] || [ ! -e "$policy" ] || mv "$policy" "$kept"
    trap let_services_go EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

let_services_go() {
    # Once: the second time it would be the true policy that is removed.
    trap - EXIT
    rm -f "$policy"
    [ ! -e "$kept" ] || mv "$kept" "$policy"
}

apt() {
    said=$(apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null 2>&1) || {
        echo "services: apt-get $1 failed:" "$said" >&2
        return 1
    }
}

update_lists() {
    # Mirrors change while they are read, now and then; a while later they fit together again.
    apt update || { sleep 5; apt update; }
}

install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    update_lists && apt install -y --no-install-recommends "$@" || return 1
    for service in "$@"; do
        systemctl disable --quiet "$service" >/dev/null 2>&1 || true
    done
}

give_in() {
    cat >&2 <<END
services: not installed here:$1. Tests that need these servers are left out: they are skipped,
and each says which package it misses. To run them, install the packages (on Debian and Ubuntu:
sudo apt-get install$1; elsewhere your system's like) and run make again; a service need not run.
END
    [ "${CI:-}" != true ] || exit 1
    exit 0
}

absent=$(missing)
if [ -n "$absent" ] && can_install; then
    echo "services: installing$absent"
    hold_services_back
    # Names of packages hold no spaces: each becomes a word of its own.
    # shellcheck disable=SC2086
    install_packages $absent || true
    let_services_go
    absent=$(missing)
fi
[ -z "$absent" ] || give_in "$absent"
[ -z "$stamp" ] || touch "$stamp"
