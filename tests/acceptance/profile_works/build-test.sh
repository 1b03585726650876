set -e
# A package of one program: built by debuild, looked at by lintian, installed and tried by autopkgtest; another by equivs.
work=$(mktemp -d)
mkdir -p "$work"/hello-1/debian/source "$work"/hello-1/debian/tests
cd "$work"/hello-1
printf '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n' > hello.c
printf 'hello: hello.c\n\t$(CC) $(CFLAGS) $(CPPFLAGS) $(LDFLAGS) -o hello hello.c\nclean:\n\trm -f hello\n' > Makefile
cat > debian/control <<'END'
Source: hello
Section: misc
Priority: optional
Maintainer: A <a@example.org>
Build-Depends: debhelper-compat (= 13)
Standards-Version: 4.6.2

Package: hello
Architecture: any
Depends: ${shlibs:Depends}, ${misc:Depends}
Description: says hello
 A program that says hello.
END
DEBEMAIL=a@example.org DEBFULLNAME=A dch --create --package hello --newversion 1 --distribution unstable 'First release'
echo '3.0 (native)' > debian/source/format
printf '#!/usr/bin/make -f\n%%:\n\tdh $@\n' > debian/rules
chmod +x debian/rules
echo 'hello usr/bin' > debian/install
printf 'Files: *\nCopyright: A\nLicense: public-domain\n' > debian/copyright
printf 'Test-Command: test "$(hello)" = hello\nDepends: @\n' > debian/tests/control
debuild --no-lintian -us -uc -b > ../built 2>&1 || {
    tail -n 30 ../built >&2
    exit 1
}
lintian --fail-on error ../hello_1_amd64.changes
autopkgtest ../hello_1_amd64.deb . -- null > ../tried 2>&1 || {
    tail -n 30 ../tried >&2
    exit 1
}
grep -q 'command1 *PASS' ../tried
cd "$work"
equivs-control nothing
sed -i 's/^Package:.*/Package: nothing/' nothing
equivs-build nothing > made 2>&1 || {
    tail -n 30 made >&2
    exit 1
}
dpkg-deb --info nothing_1.0_all.deb
