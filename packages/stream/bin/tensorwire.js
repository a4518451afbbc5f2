#!/usr/bin/env node
// Stacks name the sources that the modules were bundled from.
if (process.env.TENSORWIRE_DEBUG) process.setSourceMapsEnabled(true);
let main;
try {
  ({ main } = await import("../dist/cli/main.js"));
} catch (error) {
  if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
  process.stderr.write(
    "tensorwire: not built yet: run `npm run build` in the repository, or `npm install` where it is a dependency\n" +
      `  ${error.message}\n`,
  );
  process.exit(1);
}
// Connections of strangers to a listener, and pipes that stay open, are not waited for.
process.exit(await main(process.argv.slice(2)));
