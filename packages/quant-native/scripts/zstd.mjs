// Where libzstd comes from, which the addon packs with: the sources in the package zstd-napi, else the system's library,
// else nowhere. Sources are compiled once for a compiler, since that takes far longer than the addon itself.
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
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { join } from "node:path";

/** Parts of the library that are compiled: neither dictionary builder nor formats before zstd 1. */
const PARTS = ["common", "compress", "decompress"];

const FLAGS = [
  "-O3",
  "-fPIC",
  "-fvisibility=hidden",
  "-ffunction-sections",
  // Its warnings are its authors' affair.
  "-w",
  // The addon's own, and not to be mixed up with that of another addon in the same process.
  "-DZSTDLIB_VISIBLE=",
  "-DZSTDERRORLIB_VISIBLE=",
  "-DXXH_NAMESPACE=tensorwire_zstd_",
  "-DZSTD_LEGACY_SUPPORT=0",
  "-DZSTD_TRACE=0",
  // Level 1 and below look for matches the fast way only; the others take most of the time to compile.
  ...["DFAST", "GREEDY", "LAZY", "LAZY2", "BTLAZY2", "BTOPT", "BTULTRA"].map(
    (strategy) => `-DZSTD_EXCLUDE_${strategy}_BLOCK_COMPRESSOR`,
  ),
];

/** What the addon uses of it, beyond the API that every version has. */
const PROBE = `
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
int main(void) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_frameHeader header;
  ZSTD_CCtx_setParameter(context, ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
  return (int)ZSTD_getFrameHeader(&header, context, 0);
}
`;

/** The folder of the library's sources, or undefined where the package is not installed. */
export function findSources() {
  try {
    const manifest = createRequire(import.meta.url).resolve("zstd-napi/package.json");
    const library = join(manifest, "..", "deps", "zstd", "lib");
    return existsSync(join(library, "zstd.h")) ? library : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Compiles the library, or finds it compiled.
 * @param run calls the C++ compiler, which compiles C as well.
 */
async function compileSources(library, { run, identity, flags, cache }) {
  const all = [...FLAGS, ...flags];
  const files = PARTS.flatMap((part) =>
    readdirSync(join(library, part))
      .filter((name) => /\.[cS]$/.test(name))
      .map((name) => join(part, name)),
  );
  const hash = createHash("sha256").update(JSON.stringify([identity, all, files]));
  for (const file of ["zstd.h", ...files]) hash.update(readFileSync(join(library, file)));
  const folder = join(cache, hash.digest("hex").slice(0, 16));
  if (!existsSync(folder)) {
    mkdirSync(cache, { recursive: true });
    const part = mkdtempSync(join(cache, "part-"));
    try {
      const waiting = [...files];
      const worker = async () => {
        for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
          const language = file.endsWith(".S") ? "assembler-with-cpp" : "c";
          await run([...all, "-x", language, "-c", join(library, file), "-o", join(part, objectOf(file))]);
        }
      };
      await Promise.all(Array.from({ length: availableParallelism() }, worker));
      // Whoever is first to have it whole wins; another build's is as good.
      try {
        renameSync(part, folder);
      } catch (error) {
        if (!existsSync(folder)) throw error;
      }
    } finally {
      rmSync(part, { recursive: true, force: true });
    }
  }
  return files.map((file) => join(folder, objectOf(file)));
}

function objectOf(file) {
  return `${file.replace(/[\\/]/, "-").replace(/\.[cS]$/, "")}.o`;
}

/** Whether a program that uses the system's library compiles and links. */
async function systemServes({ run, output }) {
  const folder = mkdtempSync(join(output, "probe-"));
  try {
    const source = join(folder, "probe.c");
    writeFileSync(source, PROBE);
    await run(["-w", "-x", "c", source, "-o", join(folder, "probe"), "-lzstd"]);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * How the addon is compiled and linked with libzstd. `TENSORWIRE_ZSTD` can ask for `sources`, `system` or `none`.
 * @returns `flags` for its sources, `link` for its end, and `notice` where it has to do without.
 */
export async function zstd(toolchain) {
  const wanted = process.env.TENSORWIRE_ZSTD || undefined;
  const reasons = [];
  if (wanted === undefined || wanted === "sources") {
    const library = findSources();
    if (library === undefined) {
      reasons.push("the optional package zstd-napi is not installed");
    } else {
      try {
        const link = await compileSources(library, toolchain);
        return { flags: ["-DTENSORWIRE_ZSTD", "-DTENSORWIRE_ZSTD_SOURCES", `-I${library}`], link };
      } catch (error) {
        reasons.push(`its sources do not compile: ${error.stderr || error.message}`);
      }
    }
  }
  if (wanted === undefined || wanted === "system") {
    if (await systemServes(toolchain)) return { flags: ["-DTENSORWIRE_ZSTD"], link: ["-lzstd"] };
    reasons.push("the system has no libzstd to link with");
  }
  return { flags: [], link: [], notice: reasons.join("; ") || "TENSORWIRE_ZSTD is none" };
}
