// Fuzzes the decoders, the encoders and the envelope, with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer:
// each target of fuzz/ with each codec, for a while.
//
//   node scripts/fuzz.mjs [--seconds <each>] [--together] [--target <name>]… [--codec <name>]…
//
// --together gives each target all codecs at once: what there is time for in CI.
// What it finds is kept in build/fuzz/found, what it learns in build/fuzz/corpus: a later run goes on from there.
import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import * as core from "@tensorwire/core";
import { codebookHeader } from "./codebook-header.mjs";
import { writeSeeds } from "./fuzz-seeds.mjs";
import { kernelSources, NATIVE } from "./native-sources.mjs";
import { zstd } from "./zstd.mjs";

const packageRoot = fileURLToPath(new URL("..", import.meta.url));
const folder = join(packageRoot, "build", "fuzz");
const OF_CODECS = ["decode", "encode", "unpack"];
/** pack makes frames of bytes, whatever they are of. */
const TARGETS = [...OF_CODECS, "pack"];
/** Some blocks of the largest size. */
const MOST_BYTES = 20_000;
/** Compiled in a third of the time that -O3 takes. */
const OPTIMIZE = "-O1";
const SANITIZE = [
  "-g",
  "-fno-omit-frame-pointer",
  "-fsanitize=address,undefined",
  "-fno-sanitize-recover=all",
];

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    together: { type: "boolean" },
    target: { type: "string", multiple: true, default: TARGETS },
    codec: { type: "string", multiple: true, default: core.BUILT_IN_CODECS.map(({ name }) => name) },
  },
});
const seconds = Number(values.seconds);
const codecs = values.codec.map((name) => core.defaultCodecs.get(name));
const unknown = values.target.find((name) => !TARGETS.includes(name));
if (unknown !== undefined) throw new Error(`there is no target ${unknown}; there are ${TARGETS.join(", ")}`);
if (!Number.isInteger(seconds) || seconds < 1) throw new Error("--seconds is a whole number from 1 on");

/** A clang that links a program with libFuzzer. */
function findClang() {
  const probe = join(folder, "probe.cc");
  writeFileSync(
    probe,
    '#include <stddef.h>\n#include <stdint.h>\nextern "C" int LLVMFuzzerTestOneInput(const uint8_t*, size_t) { return 0; }\n',
  );
  const versions = Array.from({ length: 12 }, (_, i) => `clang++-${25 - i}`);
  return (process.env.CLANG ? [process.env.CLANG] : ["clang++", ...versions]).find((program) => {
    try {
      execFileSync(program, ["-fsanitize=fuzzer,address,undefined", probe, "-o", join(folder, "probe")], {
        stdio: "ignore",
      });
      return true;
    } catch {
      return false;
    }
  });
}

/** Runs all of them, as many at a time as there are processors. */
async function inParallel(jobs) {
  const results = [];
  const waiting = [...jobs.entries()];
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
      results[next[0]] = await next[1]();
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return results;
}

async function build(clang) {
  const run = (args) => promisify(execFile)(clang, args, { maxBuffer: 1 << 24 });
  writeFileSync(join(folder, "codebook_tables.h"), codebookHeader(core));
  const version = execFileSync(clang, ["--version"], { encoding: "utf8" });
  const { flags, link, notice } = await zstd({
    run,
    identity: `${clang} ${version}`,
    flags: [OPTIMIZE, "-g", "-fsanitize=fuzzer-no-link,address"],
    cache: join(packageRoot, "build", "zstd"),
    output: folder,
  });
  if (notice !== undefined) console.log(`without libzstd, envelopes stay shut: ${notice}`);
  const compile = (source, name, more) => {
    const object = join(folder, `${name}.o`);
    const all = [
      ...more,
      ...flags,
      OPTIMIZE,
      ...SANITIZE,
      "-fsanitize=fuzzer-no-link",
      `-I${folder}`,
      `-I${NATIVE}`,
    ];
    return async () => {
      await run([...all, "-c", source, "-o", object]);
      return object;
    };
  };
  const kernels = kernelSources(process.arch);
  const plain = kernels.find(({ name }) => name === "kernels_scalar.cc").flags;
  const objects = await inParallel([
    ...kernels.map(({ name, flags: own }) => compile(join(NATIVE, name), name, own)),
    ...values.target.map((name) => compile(join(packageRoot, "fuzz", `${name}.cc`), `fuzz-${name}`, plain)),
  ]);
  const shared = objects.slice(0, kernels.length);
  await inParallel(
    values.target.map(
      (name, i) => () =>
        run([
          ...SANITIZE,
          "-fsanitize=fuzzer",
          ...shared,
          objects[kernels.length + i],
          ...link,
          "-o",
          join(folder, name),
        ]),
    ),
  );
}

const corpus = (target, codec) => join(folder, "corpus", `${target}-${codec}`);

/** One target with one codec, or with all of them: whether it found nothing. */
async function fuzz(target, codec) {
  const name = `${target}-${codec?.name ?? "all"}`;
  const program = [join(folder, target), ...(codec ? [`--codec=${codec.id}`] : [])];
  const learned = corpus(target, codec?.name ?? "all");
  mkdirSync(learned, { recursive: true });
  const args = [
    `-max_total_time=${seconds}`,
    `-max_len=${MOST_BYTES}`,
    "-rss_limit_mb=2048",
    `-artifact_prefix=${join(folder, "found", `${name}-`)}`,
    "-print_final_stats=1",
    learned,
    ...(codec ? [] : codecs.map((each) => corpus(OF_CODECS.includes(target) ? target : "decode", each.name))),
  ];
  const run = promisify(execFile)(program[0], [...program.slice(1), ...args], { maxBuffer: 1 << 28 });
  const { code = 0, stderr } = await run.catch((error) => error);
  const inputs = /number_of_executed_units: (\d+)/.exec(stderr)?.[1] ?? "no";
  if (code === 0) {
    console.log(`${name.padEnd(20)} ${inputs} inputs, no fault`);
    return true;
  }
  const said = stderr.split("\n").filter((line) => !line.startsWith("#"));
  const kept = /Test unit written to (\S+)/.exec(stderr)?.[1] ?? "";
  console.log(`${name.padEnd(20)} FAULT\n${said.slice(-60).join("\n")}\nagain: ${program.join(" ")} ${kept}`);
  return false;
}

mkdirSync(join(folder, "found"), { recursive: true });
const clang = findClang();
if (clang === undefined) {
  console.log("SKIPPED: needs clang with libFuzzer (Debian: clang, libclang-rt-14-dev)");
  process.exit(0);
}
await build(clang);
for (const codec of codecs) {
  const folderOf = (target) => corpus(target, codec.name);
  if (OF_CODECS.some((target) => !existsSync(folderOf(target)))) writeSeeds(codec, folderOf);
}
const sound = await inParallel(
  values.target.flatMap((target) =>
    (values.together || !OF_CODECS.includes(target) ? [undefined] : codecs).map(
      (codec) => () => fuzz(target, codec),
    ),
  ),
);
process.exit(sound.every(Boolean) ? 0 : 1);
