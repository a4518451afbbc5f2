import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

const docs = new URL("../../../docs/", import.meta.url);

it("every page of docs has its place on the site", () => {
  const source = readFileSync(new URL(".vitepress/pages.ts", docs), "utf8");
  const placed = [...source.matchAll(/pages: \[(.*?)\]/gs)].flatMap(([, list]) =>
    [...list!.matchAll(/"([^"]+)"/g)].map(([, page]) => page!),
  );
  const pages = ["", "guides/"].flatMap((folder) =>
    readdirSync(new URL(folder, docs))
      .filter((file) => file.endsWith(".md"))
      .map((file) => `${folder}${file.slice(0, -3)}`),
  );
  expect(placed.sort()).toEqual(pages.filter((page) => page !== "index").sort());
});
