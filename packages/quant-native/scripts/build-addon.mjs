// Compiles the addon with whatever C++ compiler there is: no node-gyp, nothing downloaded. Without one the portable
// codecs serve, so that a missing compiler is a notice; with TENSORWIRE_REQUIRE_NATIVE=1 it is a failure.
//
//   node scripts/build-addon.mjs [--sanitize] [--release] [--arch <arch>] [--output <directory>]
//
// --sanitize compiles for AddressSanitizer and UndefinedBehaviorSanitizer, into build/sanitize: see sanitize.mjs.
// --release makes a file for machines other than this one: without symbols, and without the compiler's own libraries.
// --arch says which processor CXX compiles for, where that is not this one: see prebuild.mjs.
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
import { NATIVE, nativeSources } from "./native-sources.mjs";
import { zstd } from "./zstd.mjs";

const packageRoot = fileURLToPath(new URL("..", import.meta.url));
const {
  values: {
    sanitize,
    release,
    arch: target,
    output = join(packageRoot, "build", sanitize ? "sanitize" : ""),
  },
} = parseArgs({
  options: {
    sanitize: { type: "boolean" },
    release: { type: "boolean" },
    arch: { type: "string", default: arch() },
    output: { type: "string" },
  },
});
const addon = join(output, "tensorwire_quant.node");
const stampFile = join(output, "stamp");

const SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

// The addon's undefined napi_* symbols are in the process that loads it.
const LINK_FLAGS = [
  ...(platform() === "darwin"
    ? ["-bundle", "-undefined", "dynamic_lookup", "-Wl,-dead_strip"]
    : // Never unloaded: when the last worker that loaded it ends, libuv's threads still hold zstd contexts by it.
      ["-shared", "-Wl,--gc-sections", "-Wl,-z,nodelete"]),
  ...(sanitize ? SANITIZERS : []),
  ...(release ? ["-s", "-static-libstdc++", "-static-libgcc"] : []),
];

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

/** What is compiled, with its flags. */
function units(zstdFlags) {
  const more = [
    ...(sanitize ? ["-g", "-fno-omit-frame-pointer", ...SANITIZERS] : []),
    ...(process.env.CXXFLAGS ?? "").split(" ").filter(Boolean),
    ...zstdFlags,
    `-I${nodeApi.include_dir}`,
    `-I${output}`,
  ];
  return nativeSources(target).map(({ name, flags }) => ({ name, flags: [...flags, ...more] }));
}

/** Changes when anything does that the addon is made of. */
function stampOf(compiler, header, sources, link) {
  const hash = createHash("sha256");
  const add = (text) => hash.update(`${text.length}:`).update(text);
  add(identityOf(compiler));
  add(header);
  add(JSON.stringify([sources, LINK_FLAGS, link]));
  for (const name of readdirSync(NATIVE).sort()) add(name + readFileSync(join(NATIVE, name), "utf8"));
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
      sources.map(({ name, flags }, i) => run([...flags, "-c", join(NATIVE, name), "-o", linked[i]])),
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
    flags: sanitize ? ["-g", "-fsanitize=address"] : [],
    // Shared by all outputs, and kept when the addon is built anew.
    cache: join(packageRoot, "build", "zstd"),
    output,
  });
  if (release && notice !== undefined && process.env.TENSORWIRE_ZSTD !== "none") {
    goWithout(`what others install has libzstd in it, and ${notice}`);
    return;
  }
  const sources = units(flags);
  const stamp = stampOf(compiler, header, sources, link);
  if (existsSync(addon) && existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;
  writeFileSync(join(output, "codebook_tables.h"), header);
  // A build that is cut short leaves no addon that an older stamp vouches for.
  rmSync(stampFile, { force: true });
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
