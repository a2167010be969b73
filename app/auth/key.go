package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync/atomic"
	"time"
)

// Algorithms that a token may be signed with. Each key has exactly one of them.
const (
	HS256 = "HS256"
	RS256 = "RS256"
	ES256 = "ES256"
	EdDSA = "EdDSA"
)

const (
	minSecret = 32 // bytes of an HS256 secret, RFC 7518 section 3.2
	maxKeys   = 100
	maxKid    = 256 // bytes of a key's name
)

// A key verifies signatures of one algorithm.
type key struct {
	kid  string // "" is a key without a name, which every token may be tried with
	alg  string
	with any // []byte for HS256, else a public key: what golang-jwt takes

	// Guarded by remoteKeys.mu.
	absent time.Time // since when the issuer does not publish it; zero: it does

	gone atomic.Bool // nothing that it signed is valid any more
}

// same reports whether both are the same key under the same name.
func (k *key) same(o *key) bool {
	pub, ok := k.with.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.kid == o.kid && k.alg == o.alg && pub.Equal(o.with)
}

// publicKey makes a key of what x509 or a JWK gave, whose type alone decides the
// algorithm. Weak keys are refused, and those so large that verifying hurts.
func publicKey(kid string, pub any) (*key, error) {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n < 2048 || n > 8192 {
			return nil, fmt.Errorf("an RSA key of %d bits, not 2048 to 8192", n)
		}
		if p.E < 3 || p.E%2 == 0 {
			return nil, errors.New("an RSA key with a weak exponent")
		}
		return &key{kid: kid, alg: RS256, with: p}, nil
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return nil, fmt.Errorf("an elliptic key on %s, not P-256", p.Curve.Params().Name)
		}
		return &key{kid: kid, alg: ES256, with: p}, nil
	case ed25519.PublicKey:
		return &key{kid: kid, alg: EdDSA, with: p}, nil
	default:
		return nil, fmt.Errorf("a key of type %T, not RSA, P-256 or Ed25519", pub)
	}
}

// pemKeys reads the public keys and certificates of a PEM text.
func pemKeys(text []byte) ([]*key, error) {
	var keys []*key
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		pub, err := pemPublic(block)
		if err != nil {
			return nil, fmt.Errorf("public key %d: %w", len(keys)+1, err)
		}
		k, err := publicKey("", pub)
		if err != nil {
			return nil, fmt.Errorf("public key %d is %w", len(keys)+1, err)
		}
		if keys = append(keys, k); len(keys) > 8 {
			return nil, errors.New("more than 8 public keys: each would be tried for each token, use a JWKS")
		}
	}
	if len(keys) == 0 || len(bytes.TrimSpace(text)) > 0 {
		return nil, errors.New("public keys must be PEM blocks (-----BEGIN PUBLIC KEY-----) and nothing else")
	}
	return keys, nil
}

func pemPublic(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	default:
		return nil, fmt.Errorf("a PEM block %.40q, which is no public key", block.Type)
	}
}

// jwk is one entry of a JSON Web Key Set (RFC 7517). What it says of other
// places to get keys from (x5u, x5c) is not even read.
type jwk struct {
	Kty    string   `json:"kty"`
	Kid    string   `json:"kid"`
	Use    string   `json:"use"`
	KeyOps []string `json:"key_ops"`
	Alg    string   `json:"alg"`
	Crv    string   `json:"crv"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
}

// jwks reads a key set. Entries of a kind that is not used here are passed over,
// as RFC 7517 section 5 asks; a set without any usable key is an error, because
// it would otherwise look like an issuer that has withdrawn all its keys.
func jwks(body []byte) ([]*key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, errors.New("the answer is no JSON key set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has %d keys, at most %d are taken", len(set.Keys), maxKeys)
	}
	var keys []*key
	for _, raw := range set.Keys {
		var j jwk
		if json.Unmarshal(raw, &j) != nil {
			continue
		}
		if k := j.key(); k != nil {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("none of the %d keys is an RSA, P-256 or Ed25519 key for signatures", len(set.Keys))
	}
	return keys, nil
}

// key returns nil for an entry that is not for verifying with one of our
// algorithms. A symmetric key ("oct") never comes from an URL.
func (j jwk) key() *key {
	if (j.Use != "" && j.Use != "sig") || len(j.Kid) > maxKid {
		return nil
	}
	if len(j.KeyOps) > 0 {
		verify := false
		for _, op := range j.KeyOps {
			verify = verify || op == "verify"
		}
		if !verify {
			return nil
		}
	}
	pub := j.public()
	if pub == nil {
		return nil
	}
	k, err := publicKey(j.Kid, pub)
	if err != nil || (j.Alg != "" && j.Alg != k.alg) {
		return nil
	}
	return k
}

func (j jwk) public() any {
	switch {
	case j.Kty == "RSA":
		n, e := bigint(j.N), bigint(j.E)
		if n == nil || e == nil || !e.IsInt64() || e.Int64() > 1<<31-1 {
			return nil
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}
	case j.Kty == "EC" && j.Crv == "P-256":
		x, errX := base64.RawURLEncoding.DecodeString(j.X)
		y, errY := base64.RawURLEncoding.DecodeString(j.Y)
		if errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
			return nil
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil { // also: not a point of the curve
			return nil
		}
		return pub
	case j.Kty == "OKP" && j.Crv == "Ed25519":
		x, err := base64.RawURLEncoding.DecodeString(j.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil
		}
		return ed25519.PublicKey(x)
	}
	return nil
}

// bigint decodes a number of at most 8192 bits.
func bigint(s string) *big.Int {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) == 0 || len(b) > 1025 {
		return nil
	}
	return new(big.Int).SetBytes(b)
}
