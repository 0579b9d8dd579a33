#!/bin/sh
# The first process of a guest: mounts, modules, names of cards, what the image wants to start; then it does what it is
# asked on the lanes. `cards` and `lanes` come from the kernel's command line.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/null >/dev/console 2>&1
mkdir -p /dev/pts /dev/shm
ln -s /proc/self/fd /dev/fd
for number in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${number%:*}" "/dev/${number#*:}"
done
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/lock /run/netns
modprobe -a $(cat /etc/guest/modules)

number=0
{
    echo link set lo up
    IFS=,
    for card in $cards; do
        echo "link set eth$number name $card"
        number=$((number + 1))
    done
    unset IFS
} | ip -batch -
[ ! -e /etc/guest/start ] || sh /etc/guest/start

newline='
'
# One question at a time: `run TAG SECONDS INPUT 'WORD'... end` in one line.
lane() {
    exec 3<>"$1"
    out=/run/${1##*/}.out
    err=/run/${1##*/}.err
    while :; do
        # This waits for somebody at the other end; reading would not.
        echo >&3
        IFS= read -r line <&3 || continue
        case $line in
            "run "*" end") answer "${line% end}" ;;
        esac
    done
}

answer() {
    eval "set -- $1"
    shift
    tag=$1 seconds=$2 input=$3
    shift 3
    if [ "$input" = - ]; then
        timeout -k 1 "$seconds" "$@" <&4 >"$out" 2>"$err" 3>&- 4>&-
    else
        echo "$input" | base64 -d | timeout -k 1 "$seconds" "$@" >"$out" 2>"$err" 3>&- 4>&-
    fi
    status=$?
    echo $tag $status $(stat -c %s "$out" "$err") >&3
    cat "$out" "$err" >&3
}

while set -- /sys/class/virtio-ports/*; [ $# -lt "$lanes" ]; do
    sleep 0.1
done
exec 4</dev/null
for port in "$@"; do
    lane "/dev/${port##*/}" &
done
read -r up _ </proc/uptime
echo "guest: answers after $up s"
# orphans are collected here
while :; do
    wait
done
