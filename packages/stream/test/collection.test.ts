import { describe, expect, test } from "vitest";
import { type CollectOptions, createModelServer, streamModel } from "../src/index.js";
import {
  arrivals,
  at,
  CODEC,
  closers,
  described,
  ELEMENTS,
  firstValue,
  halfway,
  hasFolder,
  serving,
  update,
} from "./collection-fixture.js";

hasFolder();

describe("a round", () => {
  test("is complete when everybody has arrived, each as the artifact that it sent", async () => {
    const server = await serving();
    const round = await server.collect("round-7", { expect: 3, model: update() });
    const seen: string[] = [];
    round.on("arrived", ({ client }) => seen.push(client));
    const sent = await Promise.all(
      ["carol", "ada", "bob"].map((client, i) =>
        streamModel(
          described(i + 1, { num_examples: `${10 * i}` }),
          server.urlOf(`round-7/${client}`),
          CODEC,
        ),
      ),
    );
    const models = await round.done;
    expect(models.map(({ client }) => client)).toEqual(["ada", "bob", "carol"]);
    expect(models.map(({ metadata }) => metadata.get("num_examples"))).toEqual(["10", "20", "0"]);
    expect(models.map(({ digest }) => digest)).toEqual([1, 2, 0].map((i) => sent[i]!.digest));
    expect(models[0]!.path).toBe(at("round-7", "ada.twire"));
    expect(await firstValue(models[0]!.path)).toBeCloseTo(2);
    expect(models[0]!.bytes).toBeLessThan((ELEMENTS * 4) / 6);
    const source = models[0]!.source();
    expect(await source.open()).toMatchObject({ tensors: [{ name: "w" }] });
    await source.close();
    expect(seen.sort()).toEqual(["ada", "bob", "carol"]);
    expect(round.status()).toMatchObject({ state: "complete", arrived: 3 });
    // Whoever comes too late hears of it, and does not land among other uploads.
    await expect(streamModel(update(), server.urlOf("round-7/dave"))).rejects.toMatchObject({
      code: "FORBIDDEN",
      message: expect.stringContaining("is over"),
    });
    expect(await arrivals("round-7")).toEqual(["ada.twire", "bob.twire", "carol.twire"]);
  });

  test("leaves stragglers out at its deadline, where there is a quorum", async () => {
    const server = await serving();
    const round = await server.collect("r", { expect: 3, quorum: 1, deadline: 1500 });
    await streamModel(update(), server.urlOf("r/ada"), CODEC);
    const { source, release } = halfway();
    const straggler = streamModel(source(), server.urlOf("r/bob"), CODEC);
    straggler.catch(() => {});
    await expect
      .poll(() => round.status().clients.find(({ client }) => client === "bob"))
      .toMatchObject({ state: "arriving", percent: 50 });
    expect(await round.done).toMatchObject([{ client: "ada" }]);
    release();
    await expect(straggler).rejects.toMatchObject({
      code: "ABORTED",
      message: expect.stringContaining("its deadline has passed"),
    });
    expect(await arrivals("r")).toEqual(["ada.twire"]);
  });

  test("without a quorum at its deadline is an error that says who was missed", async () => {
    const server = await serving();
    const round = await server.collect("r", { expect: ["ada", "bob"], deadline: new Date(Date.now() + 800) });
    await expect(streamModel(update(), server.urlOf("r/eve"))).rejects.toMatchObject({ code: "FORBIDDEN" });
    await streamModel(update(), server.urlOf("r/ada"), CODEC);
    await expect(round.done).rejects.toMatchObject({
      code: "QUORUM_MISSED",
      retryable: true,
      message: expect.stringContaining("1 of the 2"),
    });
    expect(round.status().state).toBe("failed");
    // What has arrived counts when it is collected again.
    const again = await server.collect("r", { expect: ["ada", "bob"] });
    await streamModel(update(), server.urlOf("r/bob"), CODEC);
    expect(await again.done).toMatchObject([{ client: "ada" }, { client: "bob" }]);
  });

  test("two rounds do not mix, and one is collected once at a time", async () => {
    const server = await serving();
    const rounds = await Promise.all(["r/1", "r/2"].map((name) => server.collect(name, { expect: 1 })));
    await expect(server.collect("r/1", { expect: 1 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const other = await serving();
    await expect(other.collect("r/1", { expect: 1 })).rejects.toMatchObject({ code: "TARGET_BUSY" });
    await streamModel(update(2), server.urlOf("r/2/ada"), CODEC);
    expect(await rounds[1]!.done).toMatchObject([{ path: at("r", "2", "ada.twire") }]);
    expect(rounds[0]!.status()).toMatchObject({ state: "open", arrived: 0 });
    await server.close({ signal: AbortSignal.abort() });
    await expect(rounds[0]!.done).rejects.toMatchObject({
      code: "ABORTED",
      message: expect.stringContaining("the server was closed"),
    });
  });

  test("options that cannot be meant are refused", async () => {
    const server = await serving();
    for (const options of [
      { expect: 0 },
      { expect: [] },
      { expect: 2, quorum: 3 },
      { expect: 1, deadline: 0 },
      { expect: 1, deadline: new Date(0) },
      { expect: 1, maxClientBytes: 0 },
      { expect: 1, duplicate: "keep" },
      { expect: 1, memoryBytes: -1 },
      { expect: 1, form: { chunkBytes: 0.5 } },
      { expect: 1, form: { examples: "some" } },
    ] as CollectOptions[]) {
      await expect(server.collect("r", options)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
    const bare = await createModelServer();
    closers.push(() => bare.close());
    await expect(bare.collect("r", { expect: 1 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});
