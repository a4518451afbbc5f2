import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { slug } from "github-slugger";
import { defineConfig, type DefaultTheme } from "vitepress";
import { outsideLinks } from "./outside-links.js";
import { headingOf, PAGES } from "./pages.js";

const docs = fileURLToPath(new URL("..", import.meta.url));

/** What TypeDoc has written beside its pages: the packages, and what each exports. Their scope leaves no room for a name. */
function reference(): DefaultTheme.SidebarItem[] {
  const file = new URL("../api/typedoc-sidebar.json", import.meta.url);
  if (!existsSync(file)) throw new Error("docs/api is missing: npm run docs:build makes it first");
  const packages: DefaultTheme.SidebarItem[] = JSON.parse(readFileSync(file, "utf8"));
  return packages.map((item) => ({ ...item, text: item.text!.replace("@tensorwire/", "") }));
}

/** The fenced blocks of bytes that tests read, by name: they are not of any language. */
const BYTES: ReadonlySet<string> = new Set([
  ...["sender", "receiver", "credit", "artifact", "sha256", "sha256-end", "model-digest", "journal"],
  ...["dynamic8", "nf4", "nf4-thresholds", "fp4", "fp4-thresholds"],
]);

export default defineConfig({
  title: "Tensorwire",
  description: "Streams large models between machines, one chunk at a time, in bounded memory.",
  lang: "en",
  cleanUrls: true,
  lastUpdated: false,
  // Anchors as GitHub makes them, so that the same links are right in both places.
  markdown: {
    anchor: { slugify: slug },
    config(markdown) {
      outsideLinks(docs)(markdown);
      markdown.core.ruler.push("bytes", ({ tokens }) => {
        for (const token of tokens) if (BYTES.has(token.info)) token.info = "txt";
      });
    },
    theme: { light: "github-light", dark: "github-dark" },
  },
  themeConfig: {
    logo: "/logo.svg",
    nav: [
      { text: "Guides", link: "/guides/getting-started", activeMatch: "/guides/" },
      { text: "Codecs", link: "/codecs" },
      { text: "Benchmarks", link: "/benchmarks" },
      { text: "API", link: "/api/", activeMatch: "/api/" },
    ],
    sidebar: {
      "/": [
        ...PAGES.map(({ group, pages }) => ({
          text: group,
          items: pages.map((page) => ({ text: headingOf(page), link: `/${page}` })),
        })),
        { text: "API reference", link: "/api/" },
      ],
      "/api/": reference(),
    },
    outline: { level: [2, 3] },
    search: { provider: "local" },
    footer: { message: "Apache-2.0" },
  },
  head: [["link", { rel: "icon", href: "/logo.svg" }]],
  vite: { build: { chunkSizeWarningLimit: 4096 } },
});
