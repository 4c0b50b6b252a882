/** The tables in docs/support.md are what the code has. `UPDATE_GOLDEN=1` writes them anew. */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, expect, test } from 'vitest';
import { KFUNCS, REFUSED_KFUNCS } from '../../src/helpers/kfuncs.ts';
import { helperName, LAST_HELPER } from '../../src/helpers/names.ts';
import { REFUSED_HELPERS } from '../../src/helpers/refused.ts';
import { HELPER_ROUTINES } from '../../src/helpers/routines.ts';
import { HELPERS } from '../../src/helpers/table.ts';
import { MapError } from '../../src/maps/errors.ts';
import { MAP_TYPE } from '../../src/maps/uapi.ts';
import type { MapType } from '../../src/object/spec.ts';
import { openScratch } from '../kernel/scratch.ts';
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
      for (const [keySize, valueSize, flags, maxEntries] of [
        [4, 4, 0],
        [4, 8, 0],
        [8, 4, 1],
        [0, 8, 0],
        [0, 0, 0],
        [0, 0, 1 << 10],
        [16, 8, 0, 0],
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
              maps: [{ name: 'map', type, keySize, valueSize, flags, maxEntries: maxEntries ?? 4096, inner }],
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

/** Helpers whose routine calls a service that is JavaScript on every backend. */
function servedByJs(): string[] {
  const byJs = HELPER_ROUTINES.filter(({ text }) => /call service (?!clock_gettime)/.test(text));
  return byJs.map(({ name }) => name.replace(/^bpf_/, '')).sort();
}

const kernel = openScratch(8);
afterAll(() => kernel?.dispose());

test.skipIf(kernel === undefined)(
  'each helper that the kernel allows to our program types is there, or refused with a reason',
  () => {
    const unexplained: string[] = [];
    for (let id = 1; id <= LAST_HELPER; id++) {
      const name = helperName(id)!;
      if (HELPERS.has(id) || REFUSED_HELPERS.has(name)) continue;
      const allowed = (['socket_filter', 'sched_cls', 'sched_act', 'xdp', 'cgroup_skb'] as const).some(type => {
        const log = kernel!.refusal(type, `call ${id}\nr0 = 0\nexit`);
        return log === undefined || !/cannot use helper|unknown func|invalid func/.test(log);
      });
      if (allowed) unexplained.push(name);
    }
    expect(unexplained).toEqual([]);
    expect([...HELPERS.values()].filter(({ name }) => REFUSED_HELPERS.has(name))).toEqual([]);
  },
);

test('the tables in docs/support.md are true', async () => {
  const [maps, missingMaps] = await supportedMapTypes();
  const helpers: string[] = [];
  const missing: string[] = [];
  for (let id = 1; id <= LAST_HELPER; id++) {
    const name = helperName(id)!;
    if (HELPERS.has(id)) helpers.push(name);
    else if (!REFUSED_HELPERS.has(name)) missing.push(name);
  }
  const refusedHelpers = [...new Set(REFUSED_HELPERS.values())].flatMap(reason => {
    const names = [...REFUSED_HELPERS].filter(([name, why]) => why === reason && !helpers.includes(name));
    if (names.length === 0) return [];
    return [`${reason[0]!.toUpperCase()}${reason.slice(1)}:\n${wrapped(names.map(([name]) => name).sort())}.\n`];
  });
  const kfuncs = [...KFUNCS.keys()].map(name => name.replace(/^bpf_/, '')).sort();
  const reasons = [...new Set(REFUSED_KFUNCS.values())].map(reason => {
    const names = [...REFUSED_KFUNCS].filter(([, why]) => why === reason).map(([name]) => name.replace(/^bpf_/, ''));
    return `${reason[0]!.toUpperCase()}${reason.slice(1)}:\n${wrapped(names.sort())}.\n`;
  });
  const text = `## Map types\n\n${wrapped(maps)}.\n\nRefused by name: ${wrapped(missingMaps)}.\n
## Helpers\n\nWithout the prefix \`bpf_\`; program types and licence rules are Linux 6.18's.\n\n${wrapped(helpers.sort())}.\n
They run as native code of their own, but for
${wrapped(servedByJs())},
whose bodies are JavaScript. A call costs some 2 us on the thread that made the runtime, and 10 to 20 us from another (measured
with \`strtol\`), which waits for that thread's event loop.

Of those that Linux 6.18 allows to programs of these types, these are refused by name:

${refusedHelpers.join('\n')}
The kernel's other helpers are for programs of other types; they are refused by name too:\n\n${wrapped(missing.sort())}.\n
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
