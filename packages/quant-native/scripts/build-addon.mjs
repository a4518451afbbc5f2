// Compiles the addon with whatever C++ compiler there is: no node-gyp, nothing downloaded. Without one the portable
// codecs serve, so that a missing compiler is a notice; with TENSORWIRE_REQUIRE_NATIVE=1 it is a failure.
//
//   node scripts/build-addon.mjs [--sanitize | --fuzz] [--output <directory>]
//
// --sanitize compiles for AddressSanitizer and UndefinedBehaviorSanitizer, into build/sanitize: see sanitize.mjs. --fuzz
// compiles the program of ../fuzz instead, with all but the N-API face, into build/fuzz: see fuzz.mjs.
import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { arch, platform } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import * as core from "@tensorwire/core";
import nodeApi from "node-api-headers";
import { codebookHeader } from "./codebook-header.mjs";
import { zstd } from "./zstd.mjs";

const packageRoot = fileURLToPath(new URL("..", import.meta.url));
const native = join(packageRoot, "native");
const fuzzers = join(packageRoot, "fuzz");
const {
  values: { sanitize, fuzz, output = join(packageRoot, "build", fuzz ? "fuzz" : sanitize ? "sanitize" : "") },
} = parseArgs({
  options: { sanitize: { type: "boolean" }, fuzz: { type: "boolean" }, output: { type: "string" } },
});
const addon = join(output, fuzz ? "fuzz" : "tensorwire_quant.node");
const stampFile = join(output, "stamp");

/** Source files that need their own flags, and the name under which the others learn that they are there. */
const VECTOR_FILES = {
  "kernels_avx2.cc": { arch: "x64", flags: ["-mavx2", "-mf16c"], define: "-DTENSORWIRE_AVX2" },
  "kernels_neon.cc": { arch: "arm64", flags: [], define: "-DTENSORWIRE_NEON" },
  "kernels_avx512.cc": {
    arch: "x64",
    flags: ["f", "bw", "dq", "vl", "vbmi"].map((extension) => `-mavx512${extension}`),
    define: "-DTENSORWIRE_AVX512",
  },
};

/** What takes JavaScript's values: a fuzzer has none. */
const NAPI_FILES = ["addon.cc", "arguments.cc", "schedule.cc"];

const SANITIZERS = [`-fsanitize=${fuzz ? "fuzzer," : ""}address,undefined`, "-fno-sanitize-recover=all"];
const sanitized = sanitize || fuzz;

const FLAGS = [
  "-std=c++17",
  "-O3",
  // A product and a sum may not become one rounding: payloads are the same on every machine.
  "-ffp-contract=off",
  "-fPIC",
  "-fvisibility=hidden",
  "-fno-exceptions",
  "-fno-rtti",
  "-Wall",
  "-Wextra",
  ...(sanitized ? ["-g", "-fno-omit-frame-pointer", ...SANITIZERS] : []),
];

// The addon's undefined napi_* symbols are in the process that loads it.
const ADDON_FLAGS =
  platform() === "darwin"
    ? ["-bundle", "-undefined", "dynamic_lookup", "-Wl,-dead_strip"]
    : ["-shared", "-Wl,--gc-sections"];
const LINK_FLAGS = [...(fuzz ? [] : ADDON_FLAGS), ...(sanitized ? SANITIZERS : [])];

/** The first compiler that answers, and what it says it is. */
function findCompiler() {
  const candidates = process.env.CXX ? [process.env.CXX] : ["c++", "g++", "clang++"];
  for (const command of candidates) {
    const [program, ...prefix] = command.split(" ").filter(Boolean);
    try {
      const version = execFileSync(program, [...prefix, "--version"], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
      return { program, prefix, version };
    } catch {
      // Not installed, or not a compiler: the next.
    }
  }
  return undefined;
}

/** What is compiled, with its flags; a vector file only on its processor. */
function units(zstdFlags) {
  const vector = Object.entries(VECTOR_FILES).filter(([, file]) => file.arch === arch());
  const shared = [
    ...FLAGS,
    ...(process.env.CXXFLAGS ?? "").split(" ").filter(Boolean),
    ...vector.map(([, file]) => file.define),
    ...zstdFlags,
    `-I${nodeApi.include_dir}`,
    `-I${output}`,
  ];
  const folders = fuzz ? [native, fuzzers] : [native];
  return folders
    .flatMap((folder) => readdirSync(folder).map((name) => ({ name, path: join(folder, name) })))
    .filter(
      ({ name }) => name.endsWith(".cc") && (!(name in VECTOR_FILES) || VECTOR_FILES[name].arch === arch()),
    )
    .filter(({ name }) => !fuzz || !NAPI_FILES.includes(name))
    .sort((a, b) => (a.path < b.path ? -1 : 1))
    .map(({ name, path }) => ({ name, path, flags: [...shared, ...(VECTOR_FILES[name]?.flags ?? [])] }));
}

/** Changes when anything does that the addon is made of. */
function stampOf(compiler, header, sources, link) {
  const hash = createHash("sha256");
  const add = (text) => hash.update(`${text.length}:`).update(text);
  add(identityOf(compiler));
  add(header);
  add(JSON.stringify([sources, LINK_FLAGS, link]));
  for (const folder of fuzz ? [native, fuzzers] : [native]) {
    for (const name of readdirSync(folder).sort()) add(name + readFileSync(join(folder, name), "utf8"));
  }
  return hash.digest("hex");
}

function identityOf({ program, prefix, version }) {
  return `${program} ${prefix.join(" ")} ${version}`;
}

function runnerOf({ program, prefix }) {
  return (args) => promisify(execFile)(program, [...prefix, ...args], { maxBuffer: 1 << 24 });
}

async function compile(run, sources, link) {
  const objects = mkdtempSync(join(output, "objects-"));
  const part = join(objects, "addon");
  const linked = sources.map(({ name }) => join(objects, name.replace(/\.cc$/, ".o")));
  try {
    const results = await Promise.all(
      sources.map(({ path, flags }, i) => run([...flags, "-c", path, "-o", linked[i]])),
    );
    for (const { stderr } of results) process.stderr.write(stderr);
    await run([...LINK_FLAGS, ...linked, "-o", part, ...link]);
    // Renamed into place: a running process keeps the file that it has mapped.
    renameSync(part, addon);
  } finally {
    rmSync(objects, { recursive: true });
  }
}

/** One notice; never a failed install unless that was asked for. */
function goWithout(reason) {
  rmSync(addon, { force: true });
  rmSync(stampFile, { force: true });
  const required = process.env.TENSORWIRE_REQUIRE_NATIVE === "1";
  console.error(
    [
      `@tensorwire/quant-native: no native addon was built: ${reason}`,
      required
        ? "TENSORWIRE_REQUIRE_NATIVE=1 asks for it, so this build fails."
        : "The portable codecs serve instead: the same bytes, an order of magnitude slower.",
      "For the addon, install a C++17 compiler (Debian and Ubuntu: apt-get install g++; macOS: xcode-select --install;",
      "or name one in CXX), and run `npm run build` again.",
    ].join("\n"),
  );
  process.exitCode = required ? 1 : 0;
}

async function main() {
  const compiler = findCompiler();
  if (compiler === undefined) {
    goWithout(
      process.env.CXX ? `CXX is ${process.env.CXX}, which does not run` : "no C++ compiler was found",
    );
    return;
  }
  const header = codebookHeader(core);
  mkdirSync(output, { recursive: true });
  const run = runnerOf(compiler);
  const { flags, link, notice } = await zstd({
    run,
    identity: identityOf(compiler),
    flags: sanitized ? ["-g", `-fsanitize=${fuzz ? "fuzzer-no-link," : ""}address`] : [],
    // Shared by all outputs, and kept when the addon is built anew.
    cache: join(packageRoot, "build", "zstd"),
    output,
  });
  const sources = units(flags);
  const stamp = stampOf(compiler, header, sources, link);
  if (existsSync(addon) && existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;
  writeFileSync(join(output, "codebook_tables.h"), header);
  try {
    await compile(run, sources, link);
  } catch (error) {
    goWithout(`${compiler.program} failed:\n${error.stderr || error.message}`);
    return;
  }
  writeFileSync(stampFile, stamp);
  if (notice !== undefined) {
    console.error(
      `@tensorwire/quant-native: the addon was built without libzstd: ${notice}. Others pack, more slowly.`,
    );
  }
}

await main();
