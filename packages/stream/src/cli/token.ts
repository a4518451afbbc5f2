import { readFile } from "node:fs/promises";
import { quote, TensorwireError } from "@tensorwire/core";
import { checkToken } from "../door/credential.js";

/** What this end shows of itself: never an argument, which every user of the machine can read. */
export const TOKEN_VARIABLE = "TENSORWIRE_TOKEN";

/** The token in a file, else in the environment. @throws TensorwireError `INVALID_ARGUMENT`, in which the token does not stand. */
export async function readToken(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) {
    const token = process.env[TOKEN_VARIABLE]?.trim();
    return token ? checked(token, TOKEN_VARIABLE) : undefined;
  }
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    const message = `--token-file ${quote(file)} cannot be read: ${(cause as Error).message}`;
    throw new TensorwireError("INVALID_ARGUMENT", message, { cause });
  }
  return checked(text.trim(), `--token-file ${quote(file)}`);
}

function checked(token: string, where: string): string {
  try {
    return checkToken(token);
  } catch (cause) {
    throw new TensorwireError("INVALID_ARGUMENT", `${where}: ${(cause as Error).message}`, { cause });
  }
}
