// The platforms that packages with a prebuilt addon are made for, and what compiles for them.
import { execFileSync } from "node:child_process";

export const PLATFORMS = ["gnu", "musl"].flatMap((libc) => [platform("x64", libc), platform("arm64", libc)]);

function platform(cpu, libc) {
  return { name: `linux-${cpu}-${libc}`, cpu, libc };
}

/** The fields of a package.json that let npm install it on this platform only. */
export function npmFields({ cpu, libc }) {
  // Compilers and Rust say gnu where npm says glibc.
  return { os: ["linux"], cpu: [cpu], libc: [libc === "gnu" ? "glibc" : libc] };
}

/**
 * The command that compiles for a platform, or undefined: a compiler that says that it does, else zig, which brings the
 * headers and libraries of all of them (as a program, in ZIG, or as PyPI's `ziglang`).
 */
export function compilerFor({ cpu, libc }) {
  const machine = cpu === "x64" ? "x86_64" : "aarch64";
  // Under the name that build-addon.mjs tries first, so that both share a compiled libzstd.
  const own = ["c++", "g++", `${machine}-linux-${libc}-g++`].find((command) => {
    const target = output(command, "-dumpmachine")?.trim().split("-");
    return target?.[0] === machine && target.at(-1) === libc;
  });
  if (own !== undefined) return own;
  const zig = (process.env.ZIG ? [process.env.ZIG] : ["zig", "python3 -m ziglang"]).find((command) =>
    output(command, "version"),
  );
  // The glibc that Node itself asks for is newer.
  return zig && `${zig} c++ -target ${machine}-linux-${libc}${libc === "gnu" ? ".2.17" : ""}`;
}

function output(command, argument) {
  const [program, ...prefix] = command.split(" ");
  try {
    return execFileSync(program, [...prefix, argument], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  } catch {
    return undefined;
  }
}

/** What a shared library asks of the system that loads it: libraries, and the newest version of each one's symbols. */
export function needsOf(file) {
  const text = execFileSync("readelf", ["--dynamic", "--version-info", "--wide", file], { encoding: "utf8" });
  const libraries = [...text.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name);
  const newest = new Map();
  for (const [, family, version] of text.matchAll(/Name: ([A-Z]+)_([\d.]+)/g)) {
    if (!newest.has(family) || compareVersions(version, newest.get(family)) > 0) newest.set(family, version);
  }
  return { libraries, versions: [...newest].map(([family, version]) => `${family}_${version}`) };
}

function compareVersions(a, b) {
  const [left, right] = [a, b].map((version) => version.split(".").map(Number));
  const at = left.findIndex((part, i) => part !== (right[i] ?? 0));
  return at < 0 ? left.length - right.length : left[at] - (right[at] ?? 0);
}

/** Libraries that every system of that C library has. Anything else is a defect of the build. */
const OF_LIBC = /^(libc|libm|libpthread|libdl|ld-linux-[a-z0-9-]+)\.so(\.\d+)?$/;
/** Node 20's own. */
const NEWEST_GLIBC = "2.28";

/** Why a file with these needs may not be shipped, or undefined. */
export function faultOf({ libraries, versions }) {
  const foreign = libraries.find((name) => !OF_LIBC.test(name));
  if (foreign !== undefined) return `it needs ${foreign}, which not every system has`;
  const late = versions.find((version) => {
    const [family, number] = version.split("_");
    return family !== "GLIBC" || compareVersions(number, NEWEST_GLIBC) > 0;
  });
  return late && `it needs ${late}, which Node does not: systems that run Node may lack it`;
}
