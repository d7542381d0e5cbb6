#!/bin/sh
# Makes ./configure and Makefile.in out of configure.ac and Makefile.am.
set -eu
cd "$(dirname "$0")"
exec autoreconf --force --install
