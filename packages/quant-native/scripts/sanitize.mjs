// Runs the backend suite, the vectors and the hostile arguments on an addon that was compiled for AddressSanitizer and
// UndefinedBehaviorSanitizer: every byte that a kernel reads or writes beside its buffers ends the run.
//
//   node scripts/sanitize.mjs      (Linux, with g++ or clang++ and its sanitizer libraries)
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const packageRoot = fileURLToPath(new URL("..", import.meta.url));
const workspace = join(packageRoot, "..", "..");

// Node itself is not instrumented, so that the sanitizer's library has to be in the process before anything else.
const [compiler, ...prefix] = (process.env.CXX || "c++").split(" ");
const library = execFileSync(compiler, [...prefix, "-print-file-name=libasan.so"], {
  encoding: "utf8",
}).trim();
if (!existsSync(library)) {
  console.log(`SKIPPED: needs libasan, which ${compiler} does not have`);
  process.exit(0);
}

execFileSync(process.execPath, [join(packageRoot, "scripts", "build-addon.mjs"), "--sanitize"], {
  stdio: "inherit",
  env: { ...process.env, TENSORWIRE_REQUIRE_NATIVE: "1" },
});

const tests = ["backend", "packer", "vectors", "hostile-arguments", "jobs"].map(
  (name) => `packages/quant-native/test/${name}.test.ts`,
);
const { status } = spawnSync(
  process.execPath,
  [join(workspace, "node_modules", "vitest", "vitest.mjs"), "run", "--testTimeout=300000", ...tests],
  {
    cwd: workspace,
    stdio: "inherit",
    env: {
      ...process.env,
      LD_PRELOAD: library,
      // V8 leaks on purpose, and reserves more address space than the allocator of the sanitizer expects.
      ASAN_OPTIONS: "detect_leaks=0:allocator_may_return_null=1",
      UBSAN_OPTIONS: "print_stacktrace=1",
      TENSORWIRE_TEST_ADDON: join(packageRoot, "build", "sanitize", "tensorwire_quant.node"),
      TENSORWIRE_REQUIRE_NATIVE: "1",
    },
  },
);
process.exit(status ?? 1);
