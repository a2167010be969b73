package e2e_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"testing"
	"time"

	"agentnet/app"
)

// testIssuer is a maker of JWTs that nodes of these tests may be told of.
var testIssuer = app.Issuer{Issuer: "https://issuer.test", Secret: "0123456789abcdef0123456789abcdef", Leeway: app.Duration(time.Second), Claim: "agentnet"}

// jwt makes a token of testIssuer that expires after life and has these grants.
func jwt(t testing.TB, life time.Duration, grants obj) string {
	t.Helper()
	return jwtOf(obj{"alg": "HS256", "typ": "JWT"}, obj{"iss": testIssuer.Issuer, "sub": "tester", "exp": time.Now().Add(life).Unix(), "agentnet": grants}, testIssuer.Secret)
}

// jwtOf signs claims with HS256, whatever the header says.
func jwtOf(header, claims obj, secret string) string {
	text := base64.RawURLEncoding.EncodeToString(appendJSON(nil, header)) + "." + base64.RawURLEncoding.EncodeToString(appendJSON(nil, claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
