// Bundles a package: what its exports name, and further modules that are named here, become files of dist/ that share
// chunks. A process that imports the package reads a handful of files instead of hundreds. Types and their maps are tsc's.
//
//   node ../../scripts/bundle.mjs [MODULE ...]       in the package's folder; modules by their path in src/, without .ts
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { isAbsolute, join } from "node:path";
import { rolldown } from "rolldown";

const packageRoot = process.cwd();
const source = join(packageRoot, "src");
const manifest = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8"));
const require = createRequire(join(source, "index.ts"));

// What has no source is a file as it is: package.json.
const exported = Object.values(manifest.exports).flatMap(
  (conditions) => conditions["tensorwire-source"]?.replace(/^\.\/src\/(.*)\.ts$/, "$1") ?? [],
);
const modules = [...exported, ...process.argv.slice(2)];

/** Whether a dependency is a package of CommonJS, also where it has a wrapper for those that import. */
function isCommonJs(id) {
  if (!Object.hasOwn(manifest.dependencies ?? {}, id)) return false;
  const folder = require.resolve
    .paths(id)
    .map((path) => join(path, id))
    .find((path) => existsSync(join(path, "package.json")));
  return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).type !== "module";
}

// Before Node imports CommonJS it reads all of a package once to find the names that it exports: 20 ms and 7 MiB for `ws`.
// To require it takes neither.
const REQUIRED = "\0required:";
const requireCommonJs = {
  name: "require-common-js",
  resolveId: (id) => (isCommonJs(id) ? REQUIRED + id : undefined),
  load(id) {
    if (!id.startsWith(REQUIRED)) return undefined;
    const name = id.slice(REQUIRED.length);
    const names = Object.keys(require(name)).filter(
      (each) => /^[A-Za-z_$][\w$]*$/.test(each) && each !== "default",
    );
    const code = [
      'import { createRequire } from "node:module";',
      `const required = createRequire(import.meta.url)(${JSON.stringify(name)});`,
      "export default required;",
      ...names.map((each) => `const $${each} = required.${each};\nexport { $${each} as ${each} };`),
    ];
    return code.join("\n");
  },
};

const out = join(packageRoot, "dist");
// What an earlier build made would stay beside it, types of what is no more among it.
for (const name of readdirSync(out, { recursive: true })) {
  const old = /\.(js|js\.map|d\.ts\.map)$/.test(name);
  const orphan = /\.d\.ts$/.test(name) && !existsSync(join(source, name.replace(/\.d\.ts$/, ".ts")));
  if (old || orphan) rmSync(join(out, name));
}
const bundle = await rolldown({
  input: Object.fromEntries(modules.map((module) => [module, join(source, `${module}.ts`)])),
  platform: "node",
  plugins: [requireCommonJs],
  treeshake: { propertyReadSideEffects: false },
  external: (id) => !/^[.\0]/.test(id) && !isAbsolute(id) && !isCommonJs(id),
});
await bundle.write({
  dir: out,
  format: "esm",
  sourcemap: true,
  // Beside the entries: what a module finds by its own place, it finds from src and from here.
  chunkFileNames: "[name]-[hash].js",
});
await bundle.close();
