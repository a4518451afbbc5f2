import { channels } from "./channels.js";
import { endToEnd } from "./end-to-end.js";
import { fidelity } from "./fidelity/section.js";
import { llama } from "./llama.js";
import { nvflareLlama } from "./nvflare/llama-section.js";
import { nvflareDict } from "./nvflare/section.js";
import { scaling } from "./scaling.js";
import type { Section } from "./section.js";
import { sizes } from "./sizes/section.js";

/** In the order of the page. */
export const SECTIONS: readonly Section[] = [
  endToEnd,
  channels,
  llama,
  nvflareDict,
  nvflareLlama,
  sizes,
  scaling,
  fidelity,
];
