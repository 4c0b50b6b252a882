import { nativePlatform } from './computer.ts';
import { conformanceSuite } from './suites/conformance.ts';

conformanceSuite(nativePlatform);
