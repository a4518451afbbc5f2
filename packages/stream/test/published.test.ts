import { readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { built, type Packed, packAll, workspace } from "./published-fixture.js";

const { packages, remove } = built ? packAll() : { packages: [], remove: () => {} };
afterAll(remove);

/** What a package may hold; the rest is not for whoever installs it. */
const FOR_USERS = [
  /^(package\.json|README\.md|LICENSE(-\w+)?)$/,
  /^dist\/.+\.(js|js\.map|d\.ts)$/,
  /^bin\/\w+\.js$/,
  /^dashboard\/\w+\.(html|css|js|svg)$/,
  // To build the addon where no platform's package has it.
  /^native\/.+\.(cc|h)$/,
  /^scripts\/(build-addon|codebook-header|native-sources|zstd)\.mjs$/,
];

const ADDON = "tensorwire_quant.node";
const isPlatform = ({ manifest }: Packed): boolean => manifest.main === ADDON;
const scripts = ({ files }: Packed) => files.filter((path) => /^(dist|bin)\/.*\.js$/.test(path));
const each = packages.map((packed) => [packed.manifest.name, packed] as const);

/** The packages that a module asks for by their names. */
function imported(file: string): Set<string> {
  // Examples in comments import what whoever reads them has.
  const text = file.replace(/^\s*\*.*$/gm, "");
  const asked =
    /(?:^|[\s;}])(?:import|export)\b[^"'`;]*?\bfrom\s*"([^"]+)"|\bimport\("([^"]+)"\)|^import "([^"]+)"|\(import\.meta\.url\)(?:\.resolve)?\("([^"]+)"\)/gm;
  const names = [...text.matchAll(asked)].map((match) => match.slice(1).find((name) => name !== undefined)!);
  const bare = names.filter((name) => !/^(\.|node:)/.test(name) && !builtinModules.includes(name));
  return new Set(bare.map((name) => /^(@[^/]+\/)?[^/]+/.exec(name)![0]));
}

it.runIf(built)("what is published are the packages that are not private, of one version and licence", () => {
  const names = each.map(([name]) => name);
  expect(names).toEqual(
    expect.arrayContaining(["@tensorwire/core", "@tensorwire/quant-native", "@tensorwire/stream"]),
  );
  expect(names).not.toContain("@tensorwire/examples");
  for (const { manifest } of packages) {
    const { version, license, publishConfig, dependencies, optionalDependencies } = manifest;
    expect([version, license]).toEqual([packages[0]!.manifest.version, "Apache-2.0"]);
    // Whoever installs it can see which commit and which workflow it was made from.
    expect(publishConfig).toEqual({ access: "public", provenance: true });
    for (const [name, range] of Object.entries({ ...dependencies, ...optionalDependencies })) {
      if (name.startsWith("@tensorwire/")) expect(range, name).toBe(version);
    }
  }
});

describe.each(each)("%s", (_, packed) => {
  const { manifest, files, text } = packed;

  it("holds what its users need, and nothing else", () => {
    const allowed = isPlatform(packed) ? [...FOR_USERS.slice(0, 1), new RegExp(`^${ADDON}$`)] : FOR_USERS;
    expect(files.filter((path) => !allowed.some((rule) => rule.test(path)))).toEqual([]);
    expect(files).toEqual(expect.arrayContaining(["package.json", "README.md", "LICENSE"]));
    expect(files.filter((path) => /(^|\/)(test|fixtures?)\/|\.test\./.test(path))).toEqual([]);
    expect(text("LICENSE")).toBe(readFileSync(join(workspace, "LICENSE"), "latin1"));
    // libzstd is in the addon, and its licence asks to be told wherever that goes.
    const zstd = /ZSTD_|zstd/.test(isPlatform(packed) ? text(ADDON) : "");
    if (zstd) expect(text("LICENSE-zstd")).toContain("BSD License");
  });

  it("has what its manifest names", () => {
    const named = Object.values(manifest.exports ?? {}).flatMap((conditions) =>
      typeof conditions === "string" ? conditions : [conditions.types!, conditions.default!],
    );
    const all = [...named, ...Object.values(manifest.bin ?? {}), ...(manifest.main ? [manifest.main] : [])];
    expect(all.length).toBeGreaterThan(0);
    expect(all.map((path) => path.replace(/^\.\//, "")).filter((path) => !files.includes(path))).toEqual([]);
    for (const conditions of Object.values(manifest.exports ?? {})) {
      // Whoever looks for types takes the first that fits.
      if (typeof conditions === "object") expect(Object.keys(conditions)[0]).toBe("types");
    }
    for (const path of Object.values(manifest.bin ?? {}))
      expect(text(path)).toMatch(/^#!\/usr\/bin\/env node\n/);
  });

  it("declares what it imports, types too, and bundles nothing of others", () => {
    const { dependencies, optionalDependencies, peerDependencies, name } = manifest;
    const declared = Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies });
    for (const path of [...scripts(packed), ...files.filter((file) => file.endsWith(".d.ts"))]) {
      const missing = [...imported(text(path))].filter((each) => each !== name && !declared.includes(each));
      expect(missing, path).toEqual([]);
    }
    for (const path of files.filter((file) => file.endsWith(".js.map"))) {
      const { sources } = JSON.parse(text(path)) as { sources: string[] };
      expect(
        sources.filter((source) => source.includes("node_modules")),
        path,
      ).toEqual([]);
    }
  });

  it("has maps that hold their sources, and asks for none that is not there", () => {
    for (const path of files.filter((file) => file.endsWith(".js.map"))) {
      const { sources, sourcesContent = [] } = JSON.parse(text(path)) as {
        sources: string[];
        sourcesContent?: (string | null)[];
      };
      expect(sourcesContent.filter((source) => typeof source === "string").length, path).toBe(sources.length);
    }
    for (const path of files.filter((file) => /\.(js|d\.ts)$/.test(file))) {
      const [, map] = /^\/\/# sourceMappingURL=(.+)$/m.exec(text(path)) ?? [];
      if (map) expect(files, path).toContain(join(dirname(path), map));
    }
  });

  it("says nothing of the machine that it was made on", () => {
    const paths = [workspace.replace(/\/$/, ""), homedir()].filter((path) => path.length > 1);
    for (const path of files) {
      const found = paths.filter((secret) => text(path).includes(`${secret}/`));
      expect(found, path).toEqual([]);
    }
  });

  it("has a README whose links lead somewhere, wherever it is read", () => {
    const links = [...text("README.md").matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link!);
    expect(links.filter((link) => !/^(https:|#)/.test(link) && !files.includes(link))).toEqual([]);
  });
});
