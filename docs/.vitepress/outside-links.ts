import { existsSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import type { MarkdownRenderer } from "vitepress";

/**
 * Links of a page that lead out of docs/, to sources: there is nothing behind them on the site, so that their text alone stays.
 * One that leads to no file fails the build, as a dead link between pages does.
 */
export function outsideLinks(docs: string) {
  return (markdown: MarkdownRenderer): void => {
    markdown.core.ruler.push("outside-links", (state) => {
      const page: string | undefined = state.env.path;
      if (page === undefined) return;
      for (const block of state.tokens) {
        if (block.children === null) continue;
        const ends: boolean[] = [];
        block.children = block.children.filter((token) => {
          if (token.type === "link_open") {
            const outside = leadsOut(docs, page, String(token.attrGet("href")));
            ends.push(outside);
            return !outside;
          }
          return token.type !== "link_close" || !ends.pop();
        });
      }
    });
  };
}

function leadsOut(docs: string, page: string, href: string): boolean {
  if (/^([a-z]+:|#|\/)/i.test(href)) return false;
  const target = resolve(dirname(page), decodeURI(href.split("#")[0]!));
  if (!relative(docs, target).startsWith("..")) return false;
  if (!existsSync(target))
    throw new Error(`${join("docs", relative(docs, page))} links to ${href}, which is no file`);
  return true;
}
