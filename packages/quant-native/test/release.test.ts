import { execFile, execFileSync } from "node:child_process";
import {
  accessSync,
  constants,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { libcOf } from "../src/libc.js";
import { platformPackage } from "../src/platform-package.js";

const run = promisify(execFile);
const packageRoot = fileURLToPath(new URL("..", import.meta.url));
const workspace = join(packageRoot, "..", "..");

/** Where a program of PATH is. */
function which(name: string): string | undefined {
  return process.env.PATH?.split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

const prebuilt = platformPackage();
const missing =
  prebuilt === undefined
    ? "a platform that has packages"
    : ["c++", "readelf", "npm"].find((name) => !which(name));
if (missing !== undefined) console.log(`SKIPPED: needs ${missing}: the release`);

describe.skipIf(missing !== undefined)("what is published", () => {
  let scratch: string;
  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), "tensorwire-release-"));
  });
  afterAll(() => rmSync(scratch, { recursive: true }));

  const npm = (args: string[], cwd: string, env = process.env) =>
    run(
      which("npm")!,
      [...args, "--ignore-scripts=false", "--no-audit", "--no-fund", "--no-update-notifier"],
      { cwd, env },
    );

  /** Packs a folder and what it depends on, as the registry would have them. */
  async function pack(folder: string, packed: Set<string>): Promise<void> {
    const { name, dependencies = {} } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    if (packed.has(name)) return;
    packed.add(name);
    await run(which("npm")!, ["pack", "--ignore-scripts", "--pack-destination", scratch, folder], {
      cwd: scratch,
    });
    for (const dependency of Object.keys(dependencies)) {
      await pack(join(workspace, "node_modules", dependency), packed);
    }
  }

  it("installs offline and without a compiler, and encodes with the platform's addon", async () => {
    const script = (name: string, ...args: string[]) =>
      run(process.execPath, [join(packageRoot, "scripts", name), ...args]);
    const platform = prebuilt!.replace("@tensorwire/quant-native-", "");
    const built = await script("prebuild.mjs", "--output", join(scratch, "prebuilt"), platform);
    expect(built.stdout).toMatch(/^linux-\S+ +\d+ KiB, needs .*\blibc\.so/);
    await script(
      "pack-release.mjs",
      "--partial",
      "--prebuilt",
      join(scratch, "prebuilt"),
      "--output",
      scratch,
    );
    await pack(join(packageRoot, "..", "core"), new Set());

    const tarballs = readdirSync(scratch).filter((name) => name.endsWith(".tgz"));
    writeFileSync(
      join(scratch, "package.json"),
      JSON.stringify({
        type: "module",
        dependencies: Object.fromEntries(
          tarballs.map((name) => {
            const manifest = execFileSync("tar", ["-xOzf", name, "package/package.json"], {
              cwd: scratch,
              encoding: "utf8",
            });
            return [JSON.parse(manifest).name, `file:${name}`];
          }),
        ),
      }),
    );
    // Nothing but Node: no compiler, and no shell that an install script would run in.
    const bin = mkdtempSync(join(scratch, "bin-"));
    symlinkSync(process.execPath, join(bin, "node"));
    await npm(["install", "--offline"], scratch, { ...process.env, PATH: bin });

    writeFileSync(
      join(scratch, "encode.js"),
      `import { defaultBackend } from "@tensorwire/quant-native";
       const backend = defaultBackend();
       const source = new Uint8Array(Float32Array.of(1, -0.5, 0.25).buffer);
       const job = { codec: { name: "normfloat4" }, dtype: "F32", elements: 3, source, target: new Uint8Array(6) };
       const { bytes, hash } = await backend.encode(job);
       console.log(backend.name, bytes, hash.toString(16));`,
    );
    const { NODE_PATH: _, ...env } = process.env;
    const { stdout, stderr } = await run(process.execPath, ["encode.js"], { cwd: scratch, env });
    expect({ stdout, stderr }).toEqual({
      stdout: expect.stringMatching(/^native-\w+ 6 9b3812a950636f9c\n$/),
      stderr: "",
    });
    expect(readdirSync(join(scratch, "node_modules/@tensorwire/quant-native"))).not.toContain("build");
  }, 300_000);
});

describe("the package of a platform", () => {
  it("is none where Node's own file is gone", () => {
    const { execPath } = process;
    process.execPath = "/nowhere/node";
    try {
      expect(platformPackage()).toBe(undefined);
    } finally {
      process.execPath = execPath;
    }
  });
});

describe("the C library of a program", () => {
  let scratch: string;
  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), "tensorwire-elf-"));
  });
  afterAll(() => rmSync(scratch, { recursive: true }));

  /** The least that an ELF file with one program header can be. */
  function program(loader: string, type = 3): string {
    const bytes = new Uint8Array(64 + 56 + loader.length + 1);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 0x464c457f, true);
    view.setBigUint64(32, 64n, true);
    view.setUint16(56, 1, true);
    view.setUint32(64, type, true);
    view.setBigUint64(64 + 8, 120n, true);
    view.setBigUint64(64 + 32, BigInt(loader.length + 1), true);
    bytes.set(new TextEncoder().encode(loader), 120);
    const path = join(scratch, "program");
    writeFileSync(path, bytes);
    return path;
  }

  it("is told by its loader", () => {
    expect(libcOf(program("/lib/ld-musl-x86_64.so.1"))).toBe("musl");
    expect(libcOf(program("/lib/ld-linux-aarch64.so.1"))).toBe("gnu");
    expect(libcOf(program("/lib64/ld-linux-x86-64.so.2"))).toBe("gnu");
    expect(libcOf(program("/system/bin/linker64"))).toBe(undefined);
    expect(libcOf(program("/lib/ld-musl-x86_64.so.1", 1))).toBe(undefined);
    expect(libcOf(fileURLToPath(import.meta.url))).toBe(undefined);
  });
});
