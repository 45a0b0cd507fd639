#!/bin/sh
# Runs a test program under Linux on an emulated processor with AMX; README.md says what WORK must hold.
# usage: run.sh WORK PROGRAM [ARGUMENT...]
# KERNEL_ARGUMENTS are added to the kernel's command line: clearcpuid=600 makes the kernel refuse tiles.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(cd "$1" && pwd)
program=$2
shift 2
root=$work/root
run=$work/run
rm -rf "$run"
mkdir -p "$run/disk/isolinux" "$run/files"

cc -O1 -static "$here/init.c" -o "$run/files/init"
cp "$program" "$run/files/test"
strip "$run/files/test"
: > "$run/files/arguments"
for argument in "$@"; do echo "$argument" >> "$run/files/arguments"; done
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$run/files$(dirname "$library")"
    cp -L "$library" "$run/files$library"
done

(cd "$run/files" && find . | "$root/bin/cpio" -o -H newc --quiet) > "$run/disk/isolinux/initrd"
cp "$root"/boot/vmlinuz-* "$run/disk/isolinux/vmlinuz"
cp "$root/usr/lib/ISOLINUX/isolinux.bin" "$root/usr/lib/syslinux/modules/bios/ldlinux.c32" "$run/disk/isolinux"
cat > "$run/disk/isolinux/isolinux.cfg" << END
default test
label test
    kernel vmlinuz
    append initrd=initrd console=ttyS0,115200 quiet panic=-1 mitigations=off no5lvl ${KERNEL_ARGUMENTS:-}
END
LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu "$root/usr/bin/xorriso" -as mkisofs -quiet -R -J -o "$run/disk.iso" \
    -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table "$run/disk"

cat > "$run/bochsrc" << END
cpu: model=corei7_skylake_x, count=1, ips=200000000, reset_on_triple_fault=0
memory: guest=512, host=512
romimage: file=$root/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=$root/usr/share/vgabios/vgabios.bin
boot: cdrom
ata0: enabled=1
ata0-master: type=cdrom, path=$run/disk.iso, status=inserted
com1: enabled=1, mode=file, dev=$run/serial
log: $run/log
display_library: nogui
panic: action=fatal
END
: > "$run/serial"
"$work/bochs" -q -f "$run/bochsrc" > /dev/null 2>&1 < /dev/null &
emulator=$!
trap 'kill $emulator 2> /dev/null || true' EXIT
while kill -0 $emulator 2> /dev/null && ! grep -q '^ended with\|Kernel panic' "$run/serial"; do sleep 1; done
cat "$run/serial"
grep -q '^ended with 0' "$run/serial"
