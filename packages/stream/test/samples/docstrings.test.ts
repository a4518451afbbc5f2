import ts from "typescript";
import { describe, expect, it } from "vitest";
import { examplesOf, ROOT } from "./blocks.js";

const ENTRIES = [
  "packages/core/src/index.ts",
  "packages/core/src/testing/index.ts",
  "packages/quant-native/src/index.ts",
  "packages/quant-native/src/gpu/index.ts",
  "packages/stream/src/index.ts",
  "packages/stream/src/testing/index.ts",
  "packages/stream/src/diagnostics/prometheus.ts",
  "packages/stream/src/diagnostics/opentelemetry.ts",
];

/** Functions and classes without an example: each with the reason. */
const WITHOUT_EXAMPLE: Readonly<Record<string, string>> = {
  floatTests: "a part of codecSuite, whose arguments it has",
  hostileTests: "a part of codecSuite, whose arguments it has",
};

/** Every name that an entry point exports, and the members of those that have some. */
interface Exported {
  readonly name: string;
  readonly file: string;
  readonly described: boolean;
  readonly callable: boolean;
  /** Whether its own docstring has an example. */
  readonly shown: boolean;
}

const exported = exportsOf();

describe("docstrings", () => {
  it("are there for everything that is exported, and for its members", () => {
    expect(exported.length).toBeGreaterThan(1000);
    const bare = exported.filter(({ described }) => !described).map(({ name, file }) => `${file}: ${name}`);
    expect(bare).toEqual([]);
  });

  it("show every function and class in an example, its own or one beside it", () => {
    const shown = new Map<string, string>();
    for (const folder of ["packages/core/src", "packages/quant-native/src", "packages/stream/src"]) {
      for (const { where, code } of examplesOf(folder, "")) {
        const file = where.replace(/:\d+$/, "");
        shown.set(file, `${shown.get(file) ?? ""}\n${code}`);
      }
    }
    const callable = exported.filter((found) => found.callable);
    expect(callable.length).toBeGreaterThan(150);
    const without = callable.filter(
      ({ name, file, ...own }) =>
        !own.shown && !new RegExp(`\\b${name}\\b`).test(shown.get(file) ?? "") && !(name in WITHOUT_EXAMPLE),
    );
    expect(without.map(({ name, file }) => `${file}: ${name}`)).toEqual([]);
    for (const name of Object.keys(WITHOUT_EXAMPLE))
      expect(callable.map((found) => found.name)).toContain(name);
  });
});

function exportsOf(): Exported[] {
  const { config } = ts.readConfigFile(`${ROOT}tsconfig.base.json`, ts.sys.readFile);
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, ROOT);
  const program = ts.createProgram(
    ENTRIES.map((entry) => ROOT + entry),
    { ...options, noEmit: true, types: ["node"], customConditions: ["tensorwire-source"] },
  );
  const checker = program.getTypeChecker();
  const described = (symbol: ts.Symbol): boolean =>
    ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim() !== "";
  return ENTRIES.flatMap((entry) => {
    const module = checker.getSymbolAtLocation(program.getSourceFile(ROOT + entry)!)!;
    return checker.getExportsOfModule(module).flatMap((found) => {
      const symbol = found.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(found) : found;
      const [declaration] = symbol.declarations ?? [];
      if (!declaration) throw new Error(`${entry} exports ${found.name}, which is nowhere`);
      const declared = declaration.getSourceFile().fileName.slice(ROOT.length);
      // What another package gives on is known by what was built of it.
      const file = declared.replace("/dist/", "/src/").replace(/\.d\.ts$/, ".ts");
      const shown = symbol.getJsDocTags(checker).some(({ name }) => name === "example");
      const callable = Boolean(symbol.flags & (ts.SymbolFlags.Function | ts.SymbolFlags.Class));
      const members = [...(symbol.members?.values() ?? [])].filter(isPublic);
      return [
        { name: symbol.name, file, described: described(symbol), callable, shown },
        ...members.map((member) => ({
          name: `${symbol.name}.${member.name}`,
          file,
          described: described(member) || inherited(symbol, member.name),
          callable: false,
          shown: false,
        })),
      ];
    });
  });

  /** A class that implements an interface has its words from there. */
  function inherited(symbol: ts.Symbol, member: string): boolean {
    return (symbol.declarations ?? []).some(
      (node) =>
        ts.isClassDeclaration(node) &&
        (node.heritageClauses ?? []).some(({ types }) =>
          types.some((type) => {
            const property = checker.getTypeAtLocation(type).getProperty(member);
            return property !== undefined && described(property);
          }),
        ),
    );
  }
}

function isPublic({ flags, declarations }: ts.Symbol): boolean {
  const hidden = ts.SymbolFlags.Constructor | ts.SymbolFlags.TypeParameter | ts.SymbolFlags.Signature;
  const node = declarations?.[0];
  if (flags & hidden || node === undefined) return false;
  const { name } = node as ts.NamedDeclaration;
  if (name && ts.isPrivateIdentifier(name)) return false;
  return !(ts.getCombinedModifierFlags(node as ts.Declaration) & ts.ModifierFlags.Private);
}
