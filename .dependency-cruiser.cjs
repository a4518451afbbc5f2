// The import rules of docs/architecture.md: arrows point down only, examples → stream → quant-native → core.
const above = (name, path) => ({
  name: `${name}-points-down`,
  comment: `packages/${name} imports nothing from the packages above it.`,
  severity: "error",
  from: { path: `^packages/${name}/` },
  to: { path },
});

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    above("core", "^packages/(quant-native|stream|examples)/"),
    above("quant-native", "^packages/(stream|examples)/"),
    above("stream", "^packages/examples/"),
    {
      name: "core-runs-anywhere",
      comment: "packages/core uses nothing of Node: it runs in browsers and workers too.",
      severity: "error",
      from: { path: "^packages/core/src/" },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "native-knows-no-streams",
      comment:
        "packages/quant-native runs codecs on buffers: streams and sockets are the business of packages/stream.",
      severity: "error",
      from: { path: "^packages/quant-native/src/" },
      to: { path: "^(node:)?(stream|net|http|https)$" },
    },
    {
      name: "packages-by-name",
      comment: "A package reaches another one by its name, never by a path into it.",
      severity: "error",
      from: { path: "^packages/([^/]+)/src/" },
      to: { path: "^packages/", pathNot: "^packages/$1/", dependencyTypes: ["local"] },
    },
    {
      name: "data-path-order",
      comment: "Sources and sinks know nothing of each other, and neither of channels that reach a peer.",
      severity: "error",
      from: { path: "^packages/stream/src/(source|sink)/" },
      to: { path: "^packages/stream/src/(cli|channel/(open|listen|websocket))" },
    },
    {
      name: "sources-know-no-sinks",
      severity: "error",
      from: { path: "^packages/stream/src/source/" },
      to: { path: "^packages/stream/src/sink/" },
    },
    {
      name: "sinks-know-no-sources",
      severity: "error",
      from: { path: "^packages/stream/src/sink/" },
      to: { path: "^packages/stream/src/source/" },
    },
    {
      name: "no-circles",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    { name: "no-unresolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
    {
      name: "declared",
      comment: "What a package imports stands in its package.json.",
      severity: "error",
      from: { path: "^packages/[^/]+/src/" },
      to: { dependencyTypes: ["npm-no-pkg", "npm-unknown"], dependencyTypesNot: ["npm-peer"] },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "(^|/)(dist|build)/" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.base.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["tensorwire-source", "import", "node", "default"],
      extensions: [".ts", ".js", ".mjs", ".json"],
    },
  },
};
