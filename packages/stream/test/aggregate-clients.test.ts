import { describe, expect, test } from "vitest";
import { aggregate, type ModelSource, tensorsSource } from "../src/index.js";
import { update } from "./aggregate-fixture.js";
import { failure } from "./sink-fixture.js";

describe("the sources of clients", () => {
  function watched(closed: string[], name: string, fails = false): ModelSource {
    const source = tensorsSource(update(1));
    return Object.assign(source, {
      ...(fails && { open: () => Promise.reject(new Error("broken")) }),
      close: async () => void closed.push(name),
    });
  }

  test("are closed once each, also those that were never opened", async () => {
    const closed: string[] = [];
    const some = aggregate({
      a: watched(closed, "a"),
      b: watched(closed, "b", true),
      c: watched(closed, "c"),
    });
    await expect(some.open()).rejects.toThrow(/client "b": broken/);
    await some.close();
    await some.close();
    expect(closed.sort()).toEqual(["a", "b", "c"]);
    await aggregate([watched(closed, "d")]).close();
    expect(closed).toEqual(["a", "b", "c", "d"]);
  });

  test("are closed though they were still being opened then", async () => {
    const closed: string[] = [];
    const source = watched(closed, "a");
    const { open } = source;
    let goOn = (): void => {};
    const waiting = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const mean = aggregate([Object.assign(source, { open: () => waiting.then(() => open.call(source)) })]);
    const opening = failure(mean.open());
    await new Promise((resolve) => setImmediate(resolve));
    await mean.close();
    goOn();
    expect(await opening).toMatchObject({ code: "ABORTED" });
    expect(closed).toEqual(["a"]);
  });

  test("are closed though one of them cannot be opened, nor closed", async () => {
    const source = Object.assign(watched([], "a", true), { close: () => Promise.reject(new Error("stuck")) });
    await expect(aggregate([source]).open()).rejects.toThrow(/client "0": broken/);
  });
});
