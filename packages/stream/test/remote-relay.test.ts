import { readFileSync } from "node:fs";
import { join } from "node:path";
import { defaultBackend } from "@tensorwire/quant-native";
import { describe, expect, test } from "vitest";
import { receiveModel, remoteSource, streamModel, TensorwireError } from "../src/index.js";
import { checksLoans } from "./loans-fixture.js";
import { serving, small, whole } from "./remote-source-fixture.js";
import { failure, folder, listing } from "./sink-fixture.js";

checksLoans();

describe("a relay", () => {
  test("forwards chunks as they are encoded, and never decodes one", async () => {
    const { server } = await serving();
    const edge = await serving({ uploads: folder() });
    const { backend, used } = watched();
    const source = remoteSource(server.urlOf("m"), { concurrency: 4, ...small, backend });
    const sent = await streamModel(source, edge.server.urlOf("m.twire"), { ...small, backend });
    expect(sent.confirmed).toBe(true);
    expect(used).toEqual(new Set(["hash"]));
    const to = join(folder(), "m.twire");
    await receiveModel(server.urlOf("m"), { to, ...small }).done;
    const { digest } = await edge.transfers[0]!.done;
    expect(digest).toBe(sent.digest);
  });

  test("one after another, the last end has what the first one sent", async () => {
    const { server } = await serving();
    const middle = await serving();
    middle.server.publish("relayed", () => remoteSource(server.urlOf("m"), { concurrency: 2, ...small }));
    const to = join(folder(), "m.twire");
    await receiveModel(middle.server.urlOf("relayed"), { to, concurrency: 2, ...small }).done;
    expect(readFileSync(to).equals(await whole())).toBe(true);
    server.unpublish("m");
    const error = await failure(
      receiveModel(middle.server.urlOf("relayed"), { to: `${to}2`, ...small }).done,
    );
    expect(error).toBeInstanceOf(TensorwireError);
    expect(listing(join(to, ".."))).toEqual(["m.twire"]);
  });

  /** A backend that notes what it is asked for. */
  function watched() {
    const used = new Set<string>();
    const backend = new Proxy(defaultBackend(), {
      get(target, name) {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== "function") return value;
        return (...args: unknown[]): unknown => {
          used.add(String(name));
          return value.apply(target, args);
        };
      },
    });
    return { backend, used };
  }
});
