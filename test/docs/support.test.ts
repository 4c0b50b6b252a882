/** The tables in docs/support.md are what the code has. `UPDATE_GOLDEN=1` writes them anew. */
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { KFUNCS, REFUSED_KFUNCS } from '../../src/helpers/kfuncs.ts';
import { helperName, LAST_HELPER } from '../../src/helpers/names.ts';
import { HELPERS } from '../../src/helpers/table.ts';
import { MapError } from '../../src/maps/errors.ts';
import { MAP_TYPE } from '../../src/maps/uapi.ts';
import type { MapType } from '../../src/object/spec.ts';
import { collection, withRuntime } from '../runtime/build.ts';

const PAGE = new URL('../../docs/support.md', import.meta.url);
const START = '<!-- tables -->\n';
const END = '<!-- end of tables -->';

function wrapped(names: readonly string[]): string {
  const lines: string[] = [];
  let line = '';
  for (const name of names.map(name => `\`${name}\``)) {
    if (line.length + name.length > 120) {
      lines.push(`${line},`);
      line = name;
    } else line = line === '' ? name : `${line}, ${name}`;
  }
  return [...lines, line].join('\n');
}

/** A map type is supported if some plausible specification makes a map. */
async function supportedMapTypes(): Promise<[yes: string[], no: string[]]> {
  const yes: string[] = [];
  const no: string[] = [];
  for (const type of Object.keys(MAP_TYPE).sort() as MapType[]) {
    const made = await withRuntime(runtime => {
      let refused = true;
      for (const [keySize, valueSize, flags] of [
        [4, 4, 0],
        [4, 8, 0],
        [8, 4, 1],
        [0, 8, 0],
        [0, 0, 0],
        [0, 0, 1 << 10],
      ] as const) {
        const inner = {
          name: 'inner',
          type: 'array',
          keySize: 4,
          valueSize: 4,
          maxEntries: 1,
          flags: 0,
          contents: [],
        } as const;
        try {
          runtime.load(
            collection({
              programs: {},
              maps: [{ name: 'map', type, keySize, valueSize, flags, maxEntries: 4096, inner }],
            }),
          );
          return true;
        } catch (error) {
          if (!(error instanceof MapError)) throw error;
          refused &&= error.code === 'unsupported_map_type';
        }
      }
      // Refused by name, not for its sizes.
      expect([type, refused]).toEqual([type, true]);
      return false;
    });
    (made ? yes : no).push(type);
  }
  return [yes, no];
}

test('the tables in docs/support.md are true', async () => {
  const [maps, missingMaps] = await supportedMapTypes();
  const helpers: string[] = [];
  const missing: string[] = [];
  for (let id = 1; id <= LAST_HELPER; id++) (HELPERS.has(id) ? helpers : missing).push(helperName(id)!);
  const kfuncs = [...KFUNCS.keys()].map(name => name.replace(/^bpf_/, '')).sort();
  const reasons = [...new Set(REFUSED_KFUNCS.values())].map(reason => {
    const names = [...REFUSED_KFUNCS].filter(([, why]) => why === reason).map(([name]) => name.replace(/^bpf_/, ''));
    return `${reason[0]!.toUpperCase()}${reason.slice(1)}:\n${wrapped(names.sort())}.\n`;
  });
  const text = `## Map types\n\n${wrapped(maps)}.\n\nRefused by name: ${wrapped(missingMaps)}.\n
## Helpers\n\nWithout the prefix \`bpf_\`; program types and licence rules are Linux 6.18's.\n\n${wrapped(helpers.sort())}.\n
The kernel's other helpers are refused by name:\n\n${wrapped(missing.sort())}.\n
## Kernel functions\n
By name, wherever an object calls them (\`.ksyms\`), in GPL-compatible programs. Without the prefix \`bpf_\`:\n\n${wrapped(kfuncs)}.\n
Of those that programs of these types may call in Linux 6.18, these are refused by name, and any other.\n
${reasons.join('\n')}`;
  const page = readFileSync(PAGE, 'utf8');
  const from = page.indexOf(START) + START.length;
  const to = page.indexOf(END);
  if (process.env.UPDATE_GOLDEN) writeFileSync(PAGE, page.slice(0, from) + text + page.slice(to));
  else expect(page.slice(from, to)).toBe(text);
});
