set -e
# A program in two languages: built by cmake with ninja, kept by git, debugged, traced; a script checked.
cd "$(mktemp -d)"
git init -q
cat > CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.20)
project(hello C CXX)
add_executable(hello hello.cpp six.c)
END
echo 'int six(void) { return 6; }' > six.c
cat > hello.cpp <<'END'
#include <iostream>
extern "C" int six(void);
int main() { std::cout << six() * 7 << std::endl; }
END
git add .
git -c user.name=A -c user.email=a@example.org commit -q -m 'Say six times seven'
[ "$(git rev-list --count HEAD)" = 1 ]
cmake -G Ninja -DCMAKE_BUILD_TYPE=Debug -B build > /dev/null
ninja -C build
[ "$(build/hello)" = 42 ]
gdb -batch -ex 'break six' -ex run -ex backtrace build/hello | grep '#0  six () at'
strace -o trace build/hello
grep -q '^write(1, "42' trace
python3 -m venv env
env/bin/pip --version
env/bin/python -c 'import sysconfig, pathlib; assert pathlib.Path(sysconfig.get_path("include"), "Python.h").exists()'
[ "$(echo '{"a": [1, 2]}' | jq '.a[1]')" = 2 ]
printf '#!/bin/sh\necho $1\n' > script
shellcheck script > found || true
grep -q SC2086 found
pkg-config --version
