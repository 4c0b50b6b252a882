/**
 * Memory order: which instructions of the trusted routines keep it on arm64, as GNU objdump sees them. The arguments are in
 * the files of the routines; this pins what they rely on. UPDATE_GOLDEN=1 writes the list anew.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { arm64Machine } from '../../src/jit/arm64/machine.ts';
import type { Machine } from '../../src/jit/shared/code.ts';
import { x64Machine } from '../../src/jit/x64/machine.ts';
import { lowerRoutine } from '../../src/lowering/routine.ts';
import { HashBucket, HashElement, RunContext } from '../../src/memory/layout.ts';
import { ROUTINES } from '../../src/runtime/routines.ts';
import { disassemble } from '../jit/disassemble.ts';
import { dump, OBJDUMP } from './objdump.ts';

const GOLDEN = new URL('golden/order.list', import.meta.url);
/** Those with an argument in docs/arm64.md. */
const FAMILIES = /^(percpu_|lru_|lru_percpu_)?hash_|^lpm_trie_|^hash_of_maps_|^replay$/;
const ORDERS = /^(ldar|stlr|ldapr|swp|cas|ld(add|clr|set|eor)|st(add|clr|set|eor)|ldxr|ldaxr|stxr|stlxr|dmb)/;

function code(machine: Machine, name: string): Uint8Array {
  const routine = ROUTINES.find(each => each.name === name)!;
  return machine.compile(lowerRoutine(routine), { kind: 'routine', tailCallMode: 'cached' }).bytes;
}

const texts = (atomics: 'lse' | 'exclusive', name: string): string[] =>
  dump(code(arm64Machine(atomics), name)).map(({ text }) => text);

describe.skipIf(!OBJDUMP)('ordering instructions of trusted routines', () => {
  test('are those of the list', () => {
    const lines: string[] = [];
    for (const atomics of ['lse', 'exclusive'] as const) {
      for (const { name } of ROUTINES.filter(({ name }) => FAMILIES.test(name))) {
        const found = texts(atomics, name).filter(text => ORDERS.test(text));
        if (found.length > 0) lines.push(`${name}, ${atomics}: ${found.join('; ')}`);
      }
    }
    const list = `${lines.join('\n')}\n`;
    if (process.env.UPDATE_GOLDEN) writeFileSync(GOLDEN, list);
    expect(existsSync(GOLDEN), 'UPDATE_GOLDEN=1 makes it').toBe(true);
    // A routine that is not in the list yet is none of its business; one that changes, or is gone, is.
    const pinned = readFileSync(GOLDEN, 'utf8').trimEnd().split('\n');
    const routine = (line: string) => line.replace(/:.*/, '');
    const known = new Set(pinned.map(routine));
    expect(lines.filter(line => known.has(routine(line)))).toEqual(pinned);
  });

  /** Memory operands of loads and stores, offset only. */
  const at = (offset: number) => (offset === 0 ? String.raw`\[x\d+\]` : String.raw`\[x\d+, #${offset}\]`);

  test.each(['hash_lookup', 'lru_hash_lookup', 'hash_next_key'])(
    '%s: the first read of a bucket word acquires, each other one has a fence in front',
    name => {
      const lines = texts('lse', name);
      const word = new RegExp(`^ldr w\\d+, ${at(HashBucket.sequence)}$`);
      // The hash of an element lies at the same offset as a bucket's word.
      expect(HashElement.hash).toBe(HashBucket.sequence);
      const acquires = lines.filter(text => /^ldar w/.test(text)).length;
      const fences = lines.flatMap((text, i) => (text === 'dmb ishld' ? [i] : []));
      expect(acquires).toBeGreaterThan(0);
      expect(fences.length).toBeGreaterThanOrEqual(acquires);
      for (const fence of fences) {
        // The bucket's address may be fetched from the stack in between.
        const next = lines.slice(fence + 1).find(text => !/^ldr x\d+, \[sp/.test(text));
        expect(next).toMatch(word);
      }
    },
  );

  test.each(['hash_update', 'hash_delete', 'percpu_hash_update', 'lru_hash_update', 'lpm_trie_update'])(
    '%s: locks are taken by a fully ordered exchange and given up by a releasing store',
    name => {
      for (const atomics of ['lse', 'exclusive'] as const) {
        const lines = texts(atomics, name);
        expect(lines.some(text => /^stlr w/.test(text))).toBe(true);
        if (atomics === 'lse') expect(lines.some(text => /^(casal|swpal) w/.test(text))).toBe(true);
        else {
          // A loop whose store releases, and a full barrier behind it.
          const stores = lines.flatMap((text, i) => (/^stlxr/.test(text) ? [i] : []));
          expect(stores.length).toBeGreaterThan(0);
          for (const store of stores) expect(lines.slice(store, store + 3)).toContain('dmb ish');
        }
        expect(lines.filter(text => /^(stxr|ldaxr)/.test(text))).toEqual([]);
      }
    },
  );

  test('replay announces its epoch by a fully ordered exchange', () => {
    const lines = texts('lse', 'replay');
    const exchanges = lines.flatMap((text, i) => (/^swpal x/.test(text) ? [i] : []));
    // Online, and offline.
    expect(exchanges).toHaveLength(2);
    for (const exchange of exchanges) {
      const address = /\[(x\d+)\]$/.exec(lines[exchange]!)![1];
      expect(lines.slice(0, exchange).findLast(text => text.startsWith(`add ${address},`))).toMatch(
        new RegExp(`#0x${RunContext.epoch.toString(16)}$`),
      );
    }
  });
});

test('x86-64 has no instruction for it: acquiring loads, releasing stores and load fences are plain there', () => {
  const plain = (text: string) => !/^(lock|[lms]fence|xchg)/.test(text);
  for (const name of ['hash_lookup', 'percpu_hash_lookup', 'lru_hash_lookup', 'hash_next_key', 'lpm_trie_lookup']) {
    const lines = disassemble(code(x64Machine, name)).map(({ text }) => text);
    expect(lines.length).toBeGreaterThan(10);
    expect(lines.filter(text => !plain(text))).toEqual([]);
  }
});
