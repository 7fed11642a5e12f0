# The varied half of the size bench, run inside of a sandbox by /bin/sh: the ordinary work of a coding agent's session.
# It unpacks and edits sources, runs Python, compiles C where there is a compiler, searches, packs, and fails at times.
# $1: how many files it works through.
set -eu
files=$1
cd /work
library=$(python3 -c 'import json, os; print(os.path.dirname(os.path.dirname(json.__file__)))')
mkdir project
for part in json email http html xml unittest logging importlib asyncio concurrent; do
    cp -r "$library/$part" project/
    [ "$(find project -name '*.py' | wc -l)" -lt "$files" ] || break
done
python3 -m compileall -q project || true
find project -name '*.py' -exec grep -l 'def ' {} + | sort > found
for round in 1 2 3; do
    for file in $(head -n "$files" found); do
        head -c 300 "$file" > copy.py
        sed -e 's/self/this/' "$file" | wc -l > /dev/null
        rm copy.py
    done
    python3 -c 'import asyncio, email.mime.text, http.client, json, sqlite3, unittest, xml.dom.minidom'
done
if command -v cc > /dev/null; then
    for number in 1 2 3 4 5; do
        printf '#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\nint part%d(void) { return printf("%d"); }\n' \
            "$number" "$number" > "part$number.c"
        cc -O1 -c "part$number.c"
    done
fi
tar czf project.tar.gz project
python3 - "$files" <<'END'
import json, os, socket, subprocess, sys
for number in range(2 * int(sys.argv[1])):
    with open(f"note-{number}.json", "w") as file:
        json.dump({"n": number, "text": "x" * number}, file)
    os.rename(f"note-{number}.json", f"done-{number}.json")
for host in ("127.0.0.1", "192.0.2.1"):
    with socket.socket() as sock:
        sock.settimeout(0.2)
        sock.connect_ex((host, 8080))
for _ in range(30):
    subprocess.run(["/bin/ls", "/usr/bin"], stdout=subprocess.DEVNULL)
END
rm -rf project
