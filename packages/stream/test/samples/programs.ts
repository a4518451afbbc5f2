import ts from "typescript";
import { type Block, ROOT } from "./blocks.js";
import { GRANTED, GRANTED_TYPES } from "./granted.js";

/** What samples import from, in the order in which a name that no sample imports is looked for. */
const ENTRIES: Readonly<Record<string, string>> = {
  "@tensorwire/stream": "packages/stream/dist/index.d.ts",
  "@tensorwire/core": "packages/core/dist/index.d.ts",
  "@tensorwire/quant-native": "packages/quant-native/dist/index.d.ts",
  "@tensorwire/stream/prometheus": "packages/stream/dist/diagnostics/prometheus.d.ts",
  "@tensorwire/stream/opentelemetry": "packages/stream/dist/diagnostics/opentelemetry.d.ts",
  "@tensorwire/core/testing": "packages/core/dist/testing/index.d.ts",
  "@tensorwire/stream/testing": "packages/stream/dist/testing/index.d.ts",
};
const NODE_NAMES: Readonly<Record<string, string>> = {
  createServer: "node:http",
  PassThrough: "node:stream",
};

/** A block as a module: with the imports that it leaves out, and what it takes for granted. */
export interface Program {
  readonly block: Block;
  /** With types, as they are checked. */
  readonly source: string;
  /** The granted names that it uses. */
  readonly needs: readonly string[];
}

/** Names that a block uses and neither declares nor imports. */
function freeNames(code: string): Set<string> {
  const file = ts.createSourceFile("block.ts", code, ts.ScriptTarget.Latest, true);
  const [used, declared] = [new Set<string>(), new Set<string>()];
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) {
      const { parent } = node;
      const member = ts.isPropertyAccessExpression(parent) && parent.name === node;
      const key = (ts.isPropertyAssignment(parent) || ts.isPropertySignature(parent)) && parent.name === node;
      const renamed = ts.isBindingElement(parent) && parent.propertyName === node;
      const bound =
        (ts.isVariableDeclaration(parent) || ts.isParameter(parent) || ts.isBindingElement(parent)) &&
        parent.name === node;
      const named =
        ts.isImportSpecifier(parent) || ts.isFunctionDeclaration(parent) || ts.isClassDeclaration(parent);
      if (bound || (named && (parent as ts.NamedDeclaration).name === node)) declared.add(node.text);
      else if (!member && !key && !renamed) used.add(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return new Set([...used].filter((name) => !declared.has(name)));
}

/** Blocks as modules, and what a type checker says of all of them together, by the block. */
export function programsOf(blocks: readonly Block[]): { programs: Program[]; faults: string[] } {
  const options = compilerOptions();
  const exportsOf = exportedNames(options);
  const programs = blocks.map((block): Program => {
    const free = freeNames(block.code);
    const homes = [block.home, ...Object.keys(ENTRIES)];
    const imports = [...free].flatMap((name) => {
      if (GRANTED.includes(name)) return [];
      const home = homes.find((entry) => exportsOf.get(entry)?.has(name)) ?? NODE_NAMES[name];
      return home === undefined ? [] : [`import { ${name} } from "${home}";`];
    });
    // On one line, so that faults are reported on the lines of the block.
    const source = `${imports.join(" ")} export {}; \n${block.code}`;
    return { block, source, needs: GRANTED.filter((name) => free.has(name)) };
  });
  return { programs, faults: faultsOf(programs, options) };
}

function compilerOptions(): ts.CompilerOptions {
  const { config } = ts.readConfigFile(`${ROOT}tsconfig.base.json`, ts.sys.readFile);
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, ROOT);
  return {
    ...options,
    noEmit: true,
    types: ["node"],
    // Imports that a block leaves out may be of types; and JavaScript has no types of parameters.
    verbatimModuleSyntax: false,
    isolatedModules: false,
    noImplicitAny: false,
    noUncheckedIndexedAccess: false,
  };
}

function exportedNames(options: ts.CompilerOptions): Map<string, Set<string>> {
  const paths = Object.entries(ENTRIES).map(([name, path]) => [name, ROOT + path] as const);
  const program = ts.createProgram(
    paths.map(([, path]) => path),
    options,
  );
  const checker = program.getTypeChecker();
  return new Map(
    paths.map(([name, path]) => {
      const module = checker.getSymbolAtLocation(program.getSourceFile(path)!)!;
      return [name, new Set(checker.getExportsOfModule(module).map((symbol) => symbol.name))];
    }),
  );
}

function faultsOf(programs: readonly Program[], options: ts.CompilerOptions): string[] {
  const folder = `${ROOT}packages/stream/out/types`;
  const granted = `${folder}/granted.d.ts`;
  const files = new Map(programs.map((program, i) => [`${folder}/${i}.ts`, program]));
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  const textOf = (path: string) => (path === granted ? GRANTED_TYPES : files.get(path)?.source);
  host.fileExists = (path) => textOf(path) !== undefined || fileExists(path);
  host.readFile = (path) => textOf(path) ?? readFile(path);
  host.getSourceFile = (path, version, ...rest) => {
    const text = textOf(path);
    return text === undefined
      ? getSourceFile(path, version, ...rest)
      : ts.createSourceFile(path, text, version);
  };
  const program = ts.createProgram([granted, ...files.keys()], options, host);
  return ts.getPreEmitDiagnostics(program).flatMap((fault) => {
    const message = ts.flattenDiagnosticMessageText(fault.messageText, " ");
    const found = files.get(fault.file?.fileName ?? "");
    if (!found) return [message];
    // JavaScript cannot say that a string stays one: `as const` is TypeScript's.
    if (
      found.block.language === "js" &&
      /Type 'string' is not assignable to type '.*DType'|"F32"/.test(message)
    )
      return [];
    const { line } = fault.file!.getLineAndCharacterOfPosition(fault.start ?? 0);
    return [`${found.block.where} (line ${line} of it): ${message}`];
  });
}

/** A block as JavaScript. */
export function javascriptOf({ source }: Program): string {
  const options = {
    module: ts.ModuleKind.ESNext,
    target: ts.ScriptTarget.ES2022,
    verbatimModuleSyntax: false,
  };
  return ts.transpileModule(source, { compilerOptions: options }).outputText;
}

/** What a block says that it prints: the comments behind its `console.log`. */
export function expectedLines(code: string): string[] {
  return [...code.matchAll(/console\.log\(.*\);? \/\/ (.*)$/gm)].map(([, line]) => line!);
}
