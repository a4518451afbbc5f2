// Feeds the codecs whatever a fuzzer comes up with, compiled for AddressSanitizer and UndefinedBehaviorSanitizer, and
// compares the instruction sets with one another. See ../fuzz.
//
//   node scripts/fuzz.mjs [--seconds <a target>] [--corpus <directory>] [decode | encode | unpack …]
//
// (Linux, with clang++ and its libFuzzer; by default a minute for each target.) A corpus is kept and added to.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const packageRoot = fileURLToPath(new URL("..", import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string", default: "60" }, corpus: { type: "string" } },
});
const targets = positionals.length > 0 ? positionals : ["decode", "unpack", "encode"];

/** The first clang that has libFuzzer; Debian's have their version in their name. */
const compiler = ["clang++", ...[20, 19, 18, 17, 16, 15, 14].map((version) => `clang++-${version}`)].find(
  (program) => {
    const options = { input: 'extern "C" int LLVMFuzzerTestOneInput() { return 0; }' };
    const args = ["-fsanitize=fuzzer,address", "-x", "c++", "-", "-o", "/dev/null"];
    return spawnSync(program, args, options).status === 0;
  },
);
if (compiler === undefined) {
  console.log("SKIPPED: needs clang++ and libFuzzer: fuzzing the codecs");
  process.exit(0);
}

const scratch = mkdtempSync(join(tmpdir(), "tensorwire-fuzz-"));
let failed = false;
try {
  execFileSync(process.execPath, [join(packageRoot, "scripts", "build-addon.mjs"), "--fuzz"], {
    stdio: "inherit",
    env: { ...process.env, CXX: compiler, TENSORWIRE_REQUIRE_NATIVE: "1" },
  });
  for (const target of targets) {
    const corpus = join(values.corpus ?? scratch, target);
    mkdirSync(corpus, { recursive: true });
    const { status, stderr } = spawnSync(
      join(packageRoot, "build", "fuzz", "fuzz"),
      [`-max_total_time=${values.seconds}`, "-max_len=4096", `-artifact_prefix=${corpus}-`, corpus],
      {
        encoding: "utf8",
        env: { ...process.env, TENSORWIRE_FUZZ: target, UBSAN_OPTIONS: "print_stacktrace=1" },
      },
    );
    const runs = /^Done (\d+) runs/m.exec(stderr)?.[1];
    if (status === 0 && runs !== undefined) {
      console.log(`${target}: ${runs} inputs in ${values.seconds} s, none of them amiss`);
    } else {
      failed = true;
      console.error(`${target} failed:\n${stderr}`);
    }
  }
} finally {
  if (!failed) rmSync(scratch, { recursive: true });
}
process.exit(failed ? 1 : 0);
