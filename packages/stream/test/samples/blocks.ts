import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";

/** The root of the repository. */
export const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));

/** A block of code in a page, or the example of a docstring. */
export interface Block {
  /** The file, from the root, and the line that the code begins on. */
  readonly where: string;
  /** What it is in: `js`, `ts`, `sh` or `json`. */
  readonly language: string;
  /** What stands behind the language, such as the file that it would be. */
  readonly name: string;
  readonly code: string;
  /** Why it is not run, where the page says so. */
  readonly reason: string | undefined;
  /** The package that an example belongs to, as it is imported. */
  readonly home: string;
}

const LANGUAGES = ["js", "ts", "sh", "json"];

/** Pages of docs/, READMEs, and what else is written in Markdown here. */
export function pages(): string[] {
  const docs = readdirSync(`${ROOT}docs`, { recursive: true, encoding: "utf8" });
  const pages = docs.filter(
    (path) => path.endsWith(".md") && !/(^|\/)(node_modules|api|\.vitepress)\//.test(path),
  );
  const packages = ["core", "quant-native", "stream"].map((name) => `packages/${name}/README.md`);
  return ["README.md", "CONTRIBUTING.md", ...packages, ...pages.sort().map((path) => `docs/${path}`)];
}

/**
 * The blocks of a page that are code. A comment `<!-- not run: REASON -->` in front of one says that it cannot be run, and why.
 */
export function blocksOf(page: string): Block[] {
  const text = readFileSync(ROOT + page, "utf8");
  const fence = /^(?:<!-- not run: ([^>]*?) -->\n+)?^```(\w[\w-]*)? ?([^\n]*)\n(.*?)^```$/gms;
  return [...text.matchAll(fence)].flatMap((found) => {
    const [all, reason, language = "", name = "", code = ""] = found;
    if (!LANGUAGES.includes(language)) return [];
    const before = text.slice(0, found.index) + all.slice(0, all.lastIndexOf(code));
    const where = `${page}:${before.split("\n").length}`;
    // A program of the workspace takes minutes, or installs it: that there is such a script is looked at.
    const script =
      language === "sh" &&
      code
        .trim()
        .split("\n")
        .every((line) => /^(npm|#)/.test(line));
    if (script) return [];
    return [{ where, language, name, code, reason, home: "@tensorwire/stream" }];
  });
}

/** The examples of docstrings in a folder of sources. One that begins with `// not run: REASON` is marked. */
export function examplesOf(folder: string, home: string): Block[] {
  const sources = readdirSync(ROOT + folder, { recursive: true, encoding: "utf8" });
  return sources
    .filter((path) => path.endsWith(".ts"))
    .sort()
    .flatMap((path) => examplesIn(`${folder}/${path}`, home));
}

function examplesIn(path: string, home: string): Block[] {
  const text = readFileSync(ROOT + path, "utf8");
  if (!text.includes("@example")) return [];
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const blocks: Block[] = [];
  const visit = (node: ts.Node): void => {
    for (const tag of ts.getJSDocTags(node)) {
      // A variable's statement and its declaration have the same comment.
      if (tag.tagName.text !== "example" || tag.parent.parent !== node) continue;
      const comment = ts.getTextOfJSDocComment(tag.comment) ?? "";
      const code = comment.replace(/^```\w*\n|\n```$/g, "");
      const reason = /^\/\/ not run: (.*)$/m.exec(code)?.[1];
      const { line } = file.getLineAndCharacterOfPosition(tag.pos);
      blocks.push({
        where: `${path}:${line + 1}`,
        language: "ts",
        name: "",
        code: `${code}\n`,
        reason,
        home,
      });
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return blocks;
}

/** All code that is written for readers: of pages, and of docstrings. */
export function allBlocks(): Block[] {
  return [
    ...pages().flatMap(blocksOf),
    ...examplesOf("packages/core/src/testing", "@tensorwire/core/testing"),
    ...examplesOf("packages/core/src", "@tensorwire/core").filter(
      ({ where }) => !where.includes("/testing/"),
    ),
    ...examplesOf("packages/quant-native/src", "@tensorwire/quant-native"),
    ...examplesOf("packages/stream/src/testing", "@tensorwire/stream/testing"),
    ...examplesOf("packages/stream/src", "@tensorwire/stream").filter(
      ({ where }) => !where.includes("/testing/"),
    ),
  ];
}
