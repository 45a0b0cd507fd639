#!/usr/bin/env bash
# Builds a real Weaviate for the tests, once, into a cache folder outside the repository:
#   build_weaviate.sh         builds it unless it is there (7 minutes on two cores, 2.1 GB of memory, 3.5 GB of Go's caches)
#   build_weaviate.sh path    only says where it is, or would be
set -euo pipefail
version=v1.39.0
go=1.26
server=${XDG_CACHE_HOME:-$HOME/.cache}/weaviate-test/$version/weaviate-server

if [ "${1:-}" = path ]; then echo "$server"; exit; fi
if [ -x "$server" ]; then exit; fi
if ! command -v go >/dev/null; then
    echo "go not found: the tests of Weaviate want Go >= $go to build a server; see CONTRIBUTING.md" >&2
    exit 1
fi
mkdir -p "$(dirname "$server")"
exec 9>"$server.lock"
flock 9 # who comes second finds it built; the lock lasts as long as a build whose script was killed
if [ -x "$server" ]; then exit; fi
echo "building Weaviate $version (the first time takes 7 minutes on two cores)"
unfinished=$server.build # of a build that was killed, too
rm -rf "$unfinished"
CGO_ENABLED=0 GOFLAGS="-p=2 -buildvcs=false" GOBIN=$unfinished \
    nice go install -ldflags="-s -w" "github.com/weaviate/weaviate/cmd/weaviate-server@$version"
mv "$unfinished/weaviate-server" "$server"
rmdir "$unfinished"
