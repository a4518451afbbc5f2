import { channels } from "./channels.js";
import { endToEnd } from "./end-to-end.js";
import { llama } from "./llama.js";
import { scaling } from "./scaling.js";
import type { Section } from "./section.js";

/** In the order of the page. */
export const SECTIONS: readonly Section[] = [endToEnd, channels, llama, scaling];
