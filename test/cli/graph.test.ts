/** `switchyard graph` on the router: each form against a file; UPDATE_GOLDEN=1 writes them anew. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROUTER, switchyard } from './support.ts';

const OBJECT = 'examples/router/router.bpf.o';

async function graph(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await switchyard('graph', OBJECT, ...args);
  expect([code, stderr]).toEqual([0, '']);
  return stdout;
}

describe('graph', () => {
  test.each([
    ['router-graph.txt', []],
    ['router-graph.dot', ['--dot']],
    ['router-graph.svg', ['--svg']],
    ['router-graph.json', ['--json']],
    ['router-graph-with-policy.txt', ['--program', 'router', '--set', 'tagged_policy[0]=policy_no_new_tcp']],
  ])('%s', async (name, args) => {
    const path = join(import.meta.dirname, 'golden', name);
    const text = await graph(...args);
    if (process.env.UPDATE_GOLDEN) writeFileSync(path, text);
    expect(text).toBe(readFileSync(path, 'utf8'));
  });

  test('JSON names what the other forms draw', async () => {
    const json = JSON.parse(await graph('--json'));
    expect(Object.keys(json)).toEqual([
      'programs',
      'arrays',
      'sites',
      'longestChain',
      'endless',
      'cycles',
      'unreachable',
      'emptyReachable',
      'rejected',
    ]);
    expect(json).toMatchObject({
      longestChain: ['router', 'stage_vlan', 'stage_ipv4', 'stage_tcp'],
      endless: true,
      cycles: [['stage_vlan']],
    });
    expect(json.sites.map(({ program, insn }: { program: string; insn: number }) => `${program} ${insn}`)).toEqual(
      JSON.parse((await switchyard('inspect', OBJECT, '--json')).stdout).tailCalls.map(
        ({ program, insn }: { program: string; insn: number }) => `${program} ${insn}`,
      ),
    );
    const dot = await graph('--dot');
    for (const { program, targets } of json.sites) {
      for (const target of targets) expect(dot).toContain(`"${program}" -> "${target.program}"`);
    }
  });

  test('boxes of the picture do not overlap, and all that is drawn lies in it', async () => {
    const svg = await graph('--svg');
    const [, width, height] = /<svg [^>]*width="([\d.]+)" height="([\d.]+)"/.exec(svg)!.map(Number);
    const boxes = [...svg.matchAll(/<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" rx/g)].map(
      ([, x, y, w, h]) => ({ x: Number(x), y: Number(y), right: Number(x) + Number(w), bottom: Number(y) + Number(h) }),
    );
    expect(boxes).toHaveLength(12);
    for (const [i, a] of boxes.entries()) {
      expect(a.x >= 0 && a.y >= 0 && a.right <= width! && a.bottom <= height!).toBe(true);
      for (const b of boxes.slice(i + 1)) {
        expect(a.right < b.x || b.right < a.x || a.bottom < b.y || b.bottom < a.y).toBe(true);
      }
    }
    const labels = [...svg.matchAll(/<text x="([\d.]+)" y="([\d.]+)" class="slot">([^<]*)</g)].map(([, x, y, text]) => {
      // 9 px of a monospaced font.
      const half = (text!.length * 5.4) / 2;
      return { x: Number(x) - half, y: Number(y) - 8, right: Number(x) + half, bottom: Number(y) + 2 };
    });
    expect(labels.length).toBeGreaterThan(5);
    for (const [i, a] of labels.entries()) {
      for (const b of [...labels.slice(i + 1), ...boxes]) {
        expect(a.right <= b.x || b.right <= a.x || a.bottom <= b.y || b.bottom <= a.y).toBe(true);
      }
    }
    for (const [, path] of svg.matchAll(/ d="([^"]+)" marker/g)) {
      const numbers = path!.match(/-?[\d.]+/g)!.map(Number);
      for (const [i, value] of numbers.entries()) {
        expect(value).toBeGreaterThanOrEqual(0);
        expect(value).toBeLessThanOrEqual(i % 2 === 0 ? width! : height!);
      }
    }
    // Each element that opens is closed.
    const open: string[] = [];
    for (const [, close, name, empty] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
      if (close) expect(open.pop()).toBe(name);
      else if (!empty) open.push(name!);
    }
    expect(open).toEqual([]);
  });

  test.each([
    [['--set', 'stages[8]=stage_udp'], 'bad_usage'],
    [['--set', 'flows[0]=stage_udp'], 'bad_usage'],
    [['--set', 'stages[0]=nobody'], 'no_such_program'],
    [['--program', 'nobody'], 'no_such_program'],
    [['--svg'], 'bad_usage'],
  ])('refused: %j', async (args, expected) => {
    const { code, stdout } = await switchyard('graph', ROUTER, ...args, '--json');
    expect(code).toBe(2);
    expect(JSON.parse(stdout).error.code).toBe(expected);
  });
});
