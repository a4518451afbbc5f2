import type { ServerResponse } from "node:http";
import { asTensorwireError } from "@tensorwire/core";
import { statusOf } from "../channel/refusal-status.js";

/**
 * Tells whoever asked by plain HTTP why there is nothing for it.
 * @param challenge How to show a credential.
 */
export function answerRefusal(response: ServerResponse, cause: unknown, challenge = "Bearer"): void {
  const error = asTensorwireError(cause, "INTERNAL");
  const status = statusOf(error);
  response.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    connection: "close",
    ...(status === 401 && { "www-authenticate": challenge }),
  });
  response.end(`${error.message}\n`);
}
