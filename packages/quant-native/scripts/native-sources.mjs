// Which files of native/ are compiled for a processor, and with which flags: for the addon, and for whatever else is
// made of them.
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The folder they are in. */
export const NATIVE = fileURLToPath(new URL("../native", import.meta.url));

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
];

/** The files that know JavaScript: everything else is functions of bytes. */
const OF_NODE = ["addon.cc", "arguments.cc", "schedule.cc"];

/** Those of `nativeSources` that need nothing of Node. */
export function kernelSources(arch) {
  return nativeSources(arch).filter(({ name }) => !OF_NODE.includes(name));
}

/** Each file with its flags, by name; a vector file only on its processor (`x64`, `arm64`). */
export function nativeSources(arch) {
  const vector = Object.entries(VECTOR_FILES).filter(([, file]) => file.arch === arch);
  const shared = [...FLAGS, ...vector.map(([, file]) => file.define)];
  return readdirSync(NATIVE)
    .filter((name) => name.endsWith(".cc") && (!(name in VECTOR_FILES) || VECTOR_FILES[name].arch === arch))
    .sort()
    .map((name) => ({ name, flags: [...shared, ...(VECTOR_FILES[name]?.flags ?? [])] }));
}
