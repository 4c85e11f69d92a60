// The seal of a kvae file, checked in plain C++17: true where the bytes are those that were sealed (docs/format.md).
// SHA-256 is that of FIPS 180-4. The seal notices damage; it is no signature.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kvae {

inline std::string sha256(const char* data, std::size_t size) {
  std::uint32_t h[8], k[64];
  // The first 32 bits of the fractional parts of the cube (k) and square (h) roots of the first primes.
  for (int found = 0, prime = 2; found < 64; ++prime) {
    bool composite = false;
    for (int d = 2; d * d <= prime; ++d) composite |= prime % d == 0;
    if (composite) continue;
    auto fraction = [prime](int power) {  // floor(prime^(1/power) * 2^32), by bisection in whole numbers
      unsigned __int128 low = 0, high = (unsigned __int128)1 << 37;
      while (high - low > 1) {
        const unsigned __int128 middle = (low + high) / 2;
        const unsigned __int128 p = power == 2 ? middle * middle : middle * middle * middle;
        (p >> (32 * power) >= (unsigned __int128)prime ? high : low) = middle;
      }
      return (std::uint32_t)low;
    };
    if (found < 8) h[found] = fraction(2);
    k[found++] = fraction(3);
  }
  auto rotate = [](std::uint32_t x, int n) { return x >> n | x << (32 - n); };
  std::string tail(data + size / 64 * 64, size % 64);  // what is left of whole blocks, a one bit, zeros, the length
  tail += '\x80';
  while (tail.size() % 64 != 56) tail += '\0';
  for (int shift = 56; shift >= 0; shift -= 8) tail += (char)((std::uint64_t)size * 8 >> shift);
  for (std::size_t block = 0; block < size / 64 + tail.size() / 64; ++block) {
    const bool whole = block < size / 64;
    const unsigned char* bytes = (const unsigned char*)(whole ? data + 64 * block : tail.data() + 64 * (block - size / 64));
    std::uint32_t w[64], v[8];
    for (int i = 0; i < 16; ++i)
      w[i] = (std::uint32_t)bytes[4 * i] << 24 | bytes[4 * i + 1] << 16 | bytes[4 * i + 2] << 8 | bytes[4 * i + 3];
    for (int i = 16; i < 64; ++i) {
      const std::uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
      const std::uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
      w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    for (int i = 0; i < 8; ++i) v[i] = h[i];
    for (int i = 0; i < 64; ++i) {
      const std::uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
      const std::uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
      const std::uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
      const std::uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
      for (int j = 7; j > 0; --j) v[j] = v[j - 1];
      v[4] += t1;
      v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; ++i) h[i] += v[i];
  }
  std::string hex;
  for (std::uint32_t word : h)
    for (int shift = 28; shift >= 0; shift -= 4) hex += "0123456789abcdef"[word >> shift & 15];
  return hex;
}

inline bool sealed(const std::string& file) {
  const std::string head("rO\n\x0bkvae.sha256\x12@", 17);
  return file.size() > 81 && file.compare(file.size() - 81, 17, head) == 0 &&
         file.compare(file.size() - 64, 64, sha256(file.data(), file.size() - 81)) == 0;
}

}  // namespace kvae
