// Package ask lets one node ask another to do something or to tell something, and
// get its answer: an order of an operator, a list of agents. It is no way for
// messages of agents, and nothing that must not be lost goes over it: an answer that
// does not come in time is told to the asker as such, and the question may have been
// carried out all the same.
//
// Who may ask is settled where the question begins (roles of people and tokens). Here
// the bus is trusted as far as the relay trusts it: a question counts only when it
// came as a parcel of a member that this node routes to.
//
// Everything is bounded: questions that wait for an answer, questions that wait to be
// answered, workers that answer, and the size and time of each.
package ask
