import { stat } from "node:fs/promises";
import { formatDigest, type Manifest, quote, TensorwireError } from "@tensorwire/core";
import type { ResolvedOptions } from "../options.js";
import { type ArtifactSource, artifactSource } from "../source/artifact.js";
import type { EncodedSource } from "../source/source.js";

/** A model that has arrived in a round. */
export interface CollectedModel {
  /** Whose it is. */
  readonly client: string;
  /** Of the artifact, as the client sent it. */
  readonly path: string;
  /** Of the artifact. */
  readonly bytes: number;
  /** Of the transfer, as the client's summary has it. */
  readonly digest: string;
  /** What the client says of it: how many examples it has learnt from (`num_examples`), its metrics. */
  readonly metadata: ReadonlyMap<string, string>;
  /** A source of it, for `aggregate`: what was looked at as it arrived is not looked at again. */
  source(): EncodedSource;
}

/** The model in an artifact. @param finite All its values are known to be finite. */
export async function collectedModel(
  client: string,
  path: string,
  { metadata }: Pick<Manifest, "metadata">,
  digest: string,
  settings: ResolvedOptions,
  finite: boolean,
): Promise<CollectedModel> {
  const { size: bytes } = await stat(path);
  const source = (): EncodedSource => {
    const artifact = sourceOf(path, settings);
    return finite ? Object.assign(artifact, { finite }) : artifact;
  };
  return { client, path, bytes, digest, metadata, source };
}

export function sourceOf(path: string, { backend, registry, limits }: ResolvedOptions): ArtifactSource {
  return artifactSource(path, { backend, registry, limits });
}

/**
 * What an earlier process has collected.
 * @param kept What it has noted of it; undefined where the file is another one by now, or none.
 * @throws TensorwireError as `check`, and `SOURCE_…` for what cannot be read, with what to do.
 */
export async function recoveredModel(
  client: string,
  path: string,
  kept: { readonly digest: string; readonly finite: boolean },
  settings: ResolvedOptions,
  check: (manifest: Manifest) => void,
): Promise<CollectedModel | undefined> {
  if (!(await stat(path).catch(() => undefined))) return undefined;
  const source = sourceOf(path, settings);
  try {
    const manifest = await source.open();
    check(manifest);
    if (formatDigest(source.totals.digest) !== kept.digest) return undefined;
    return await collectedModel(client, path, manifest, kept.digest, settings, kept.finite);
  } catch (cause) {
    if (!(cause instanceof TensorwireError)) throw cause;
    const { code, message } = cause;
    const advice = `${quote(path)} was collected before: ${message}: remove it, or collect elsewhere`;
    throw new TensorwireError(code, advice, { cause });
  } finally {
    await source.close();
  }
}
