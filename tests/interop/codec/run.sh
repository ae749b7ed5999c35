#!/bin/sh
# The differential proof of the codec: Kafka's message classes against ours.
#
#   run.sh BUILD_DIR [ROUNDS] [SEED]     compare; codec_peer is built in BUILD_DIR if ninja can
#   run.sh --record BUILD_DIR            write tests/golden/kafka anew from Kafka's classes, and what its assignors
#                                        make of random groups (tests/golden/group/assignors.tsv)
#
# The jars come from Maven Central through mvn, once; their list is kept in BUILD_DIR/codec-oracle.
# The last line is "N passed, F failed, S skipped"; the exit status is 0 only if F is 0.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mode=compare
if [ "${1:-}" = --record ]; then
    mode=record
    shift
fi
build=${1:?"usage: run.sh [--record] BUILD_DIR [ROUNDS] [SEED]"}
rounds=${2:-200}
seed=${3:-$(date +%s)}
build=$(cd "$build" && pwd)
work=$build/codec-oracle
mkdir -p "$work"

# Yesterday's peer would prove yesterday's codec.
if [ -f "$build/build.ninja" ]; then
    ninja -C "$build" codec_peer >"$work/ninja.log" 2>&1 || { cat "$work/ninja.log"; exit 1; }
fi
if [ ! -s "$work/classpath" ] || [ "$here/pom.xml" -nt "$work/classpath" ]; then
    mvn -q -B -f "$here/pom.xml" dependency:build-classpath "-Dmdep.outputFile=$work/classpath.new" \
        >"$work/mvn.log" 2>&1 || { cat "$work/mvn.log"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
    mv "$work/classpath.new" "$work/classpath"
fi
classpath=$(cat "$work/classpath")
if [ ! -s "$work/CodecOracle.class" ] || [ "$here/CodecOracle.java" -nt "$work/CodecOracle.class" ]; then
    javac -nowarn -d "$work" -cp "$classpath" "$here/CodecOracle.java"
fi
# The logging library says on stderr that it has nothing to log to; nobody else does when all is well.
run_java() {
    java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xss4m -Xmx512m -cp "$work:$classpath" CodecOracle "$@" \
        2>"$work/stderr" || { status=$?; grep -v '^SLF4J' "$work/stderr" >&2; exit $status; }
}
if [ "$mode" = record ]; then
    run_java record "$build/codec_peer" "$here/../../golden/kafka"
    javac -nowarn -d "$work" -cp "$classpath" "$here/AssignorOracle.java"
    java -cp "$work:$classpath" AssignorOracle 2>"$work/stderr" >"$here/../../golden/group/assignors.tsv"
else
    run_java compare "$build/codec_peer" "$rounds" "$seed"
fi
