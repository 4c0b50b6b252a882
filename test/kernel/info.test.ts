/** What the kernel says of its objects, as we read it and as bpftool does. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KernelBtf, KernelError, type KernelObject, loadIntoKernel, parseObject } from '../../src/index.ts';
import { requireTool } from '../tools.ts';
import { kernelMissing } from './support.ts';

const ROUTER = new URL('../../examples/router/router.bpf.o', import.meta.url);
const bpftool = requireTool('bpftool');

function show(kind: 'prog' | 'map' | 'btf', id: number): Record<string, unknown> {
  const { status, stdout, stderr } = spawnSync(bpftool!, ['-j', kind, 'show', 'id', `${id}`], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`bpftool says: ${stdout}${stderr}`);
  const found: unknown = JSON.parse(stdout);
  return (Array.isArray(found) ? found[0] : found) as Record<string, unknown>;
}

describe.skipIf(kernelMissing() !== undefined || bpftool === undefined)('information about objects', () => {
  let object: KernelObject;
  beforeAll(() => {
    object = loadIntoKernel(readFileSync(ROUTER));
  });
  afterAll(() => object.dispose());

  test('programs', () => {
    for (const program of object.programs.values()) {
      const info = program.info();
      const theirs = show('prog', info.id);
      expect(theirs).toMatchObject({
        id: program.id,
        // The whole name is in the types.
        name: expect.stringMatching(new RegExp(`^${info.name}`)),
        tag: info.tag,
        gpl_compatible: info.gplCompatible,
        uid: info.uid,
        bytes_xlated: info.xlatedBytes,
        bytes_jited: info.jitedBytes,
        map_ids: info.mapIds,
        btf_id: info.btfId,
      });
      expect(info).toMatchObject({ type: 6, gplCompatible: true, insnsProcessed: program.insnsProcessed });
      expect(program.xlated()).toHaveLength(info.xlatedBytes);
      expect(info.loadTimeNs).toBeGreaterThan(0n);
      const named = [...object.maps.values()].map(map => map.id);
      for (const id of info.mapIds) expect(named).toContain(id);
    }
  });

  test('maps', () => {
    for (const map of object.maps.values()) {
      const info = map.info();
      expect(show('map', info.id)).toMatchObject({
        id: map.id,
        name: info.name,
        flags: info.flags,
        bytes_key: info.keySize,
        bytes_value: info.valueSize,
        max_entries: info.maxEntries,
      });
      const { keySize, valueSize, maxEntries, flags } = map.spec;
      expect(info).toMatchObject({ keySize, valueSize, maxEntries, flags, mapExtra: 0n });
    }
  });

  test('types', () => {
    const { btf } = parseObject(readFileSync(ROUTER));
    const types = new KernelBtf(btf!.encode());
    const { id, bytes } = types.info();
    expect(show('btf', id)).toMatchObject({ id, size: bytes });
    types.dispose();
    types.dispose();
    expect(() => types.info()).toThrow(KernelError);
  });

  test('types that are none', () => {
    expect(() => new KernelBtf(new Uint8Array(40))).toThrow(
      expect.objectContaining({ name: 'KernelError', code: 'btf_refused', errno: 'EINVAL' }),
    );
  });
});
